"""The hash of each backup's manifest"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("backups", sa.Column("manifest_sha256", sa.String(64), nullable=True))
