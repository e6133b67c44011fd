"""Holds, marks of expired backups, removals, confirmations"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "holds",
        sa.Column("backup_id", sa.String(length=36), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("until", sa.DateTime(), nullable=True),
        sa.Column("held_by", sa.String(length=255), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("backup_id"),
    )
    op.create_table(
        "expirations",
        sa.Column("backup_id", sa.String(length=36), nullable=False),
        sa.Column("database_id", sa.String(length=36), nullable=False),
        sa.Column("by_person", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.String(length=255), nullable=False),
        sa.Column("policy", sa.String(length=255), nullable=False),
        sa.Column("policy_changed_by", sa.String(length=255), nullable=False),
        sa.Column("marked", sa.DateTime(), nullable=False),
        sa.Column("sweep_at", sa.DateTime(), nullable=False),
        sa.Column("served", sa.BigInteger(), nullable=False),
        sa.Column("confirmed_by", sa.String(length=255), nullable=True),
        sa.PrimaryKeyConstraint("backup_id"),
    )
    op.create_index("expirations_database", "expirations", ["database_id"])
    op.create_index("expirations_sweep_at", "expirations", ["sweep_at"])
    op.create_table(
        "removals",
        sa.Column("backup_id", sa.String(length=36), nullable=False),
        sa.Column("project", sa.String(length=255), nullable=False),
        sa.Column("database_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("instance_name", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=255), nullable=False),
        sa.Column("stored_size", sa.BigInteger(), nullable=True),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("marked", sa.DateTime(), nullable=True),
        sa.Column("removed", sa.DateTime(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.String(length=255), nullable=False),
        sa.Column("policy", sa.String(length=255), nullable=False),
        sa.Column("policy_changed_by", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("backup_id"),
    )
    op.create_index("removals_database", "removals", ["database_id", "removed"])
    op.create_index("removals_project", "removals", ["project", "removed"])
    op.create_table(
        "confirmations",
        sa.Column("database_id", sa.String(length=36), nullable=False),
        sa.Column("brake", sa.String(length=255), nullable=False),
        sa.Column("what", sa.String(length=255), nullable=False),
        sa.Column("confirmed_by", sa.String(length=255), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("database_id", "brake"),
    )
    op.add_column("backups", sa.Column("trashed", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index("backups_updated", "backups", ["updated"])
