"""Instances that are isolated copies"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("instances", sa.Column("isolated", sa.Boolean(), nullable=False, server_default=sa.false()))
