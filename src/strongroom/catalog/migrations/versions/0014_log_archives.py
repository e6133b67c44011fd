"""Log archives of instances"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "log_archives",
        sa.Column("instance_id", sa.String(length=36), nullable=False),
        sa.Column("project", sa.String(length=255), nullable=False),
        sa.Column("database_id", sa.String(length=36), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("wanted", sa.Boolean(), nullable=False),
        sa.Column("released", sa.Boolean(), nullable=False),
        sa.Column("wanted_since", sa.DateTime(), nullable=False),
        sa.Column("state", sa.String(length=255), nullable=False),
        sa.Column("trouble", sa.Text(), nullable=False),
        sa.Column("trouble_remedy", sa.Text(), nullable=False),
        sa.Column("trouble_since", sa.DateTime(), nullable=True),
        sa.Column("has_failed", sa.Boolean(), nullable=False),
        sa.Column("warnings", sa.JSON(), nullable=False),
        sa.Column("reported", sa.DateTime(), nullable=True),
        sa.Column("seen", sa.DateTime(), nullable=True),
        sa.Column("loss", sa.Float(), nullable=True),
        sa.Column("position", sa.Text(), nullable=False),
        sa.Column("last_time", sa.DateTime(), nullable=True),
        sa.Column("complete_until", sa.DateTime(), nullable=True),
        sa.Column("series", sa.BigInteger(), nullable=True),
        sa.Column("began", sa.String(length=255), nullable=False),
        sa.Column("began_reason", sa.Text(), nullable=False),
        sa.Column("began_at", sa.DateTime(), nullable=True),
        sa.Column("backup_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("instance_id"),
    )
    op.create_index("log_archives_database", "log_archives", ["database_id"])
    op.create_index("log_archives_project", "log_archives", ["project"])
