"""Hosts with their own agent: URL, certificate, and the token to join"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("hosts", sa.Column("url", sa.String(length=255), nullable=True))
    op.add_column("hosts", sa.Column("certificate", sa.Text(), nullable=True))
    op.add_column("hosts", sa.Column("token_key", sa.String(length=255), nullable=True))
    op.add_column("hosts", sa.Column("token_until", sa.DateTime(), nullable=True))
