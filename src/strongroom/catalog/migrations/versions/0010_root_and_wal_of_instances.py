"""When root was first enabled on an instance, and the size of its WAL"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("instances", sa.Column("wal_bytes", sa.BigInteger(), nullable=True))
    op.add_column("instances", sa.Column("root_enabled", sa.DateTime(), nullable=True))
    op.add_column("instances", sa.Column("root_enabled_by", sa.Text(), nullable=True))
