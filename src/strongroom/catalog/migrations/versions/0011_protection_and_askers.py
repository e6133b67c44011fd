"""Protection against deletion, and the users who requested jobs"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("instances", "backups", "clusters"):
        op.add_column(table, sa.Column("protected", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("jobs", sa.Column("asked_by", sa.String(255), nullable=False, server_default=""))
