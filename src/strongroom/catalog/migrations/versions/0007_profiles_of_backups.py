"""The server profile of a backup, and the witness of its history"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("backups", sa.Column("profile", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("backups", sa.Column("witness", sa.JSON(none_as_null=True), nullable=True))
