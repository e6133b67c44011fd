"""Quotas of projects, and indexes for lists, filters and names"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "quotas",
        sa.Column("project", sa.String(length=255), nullable=False),
        sa.Column("resource", sa.String(length=255), nullable=False),
        sa.Column("hard_limit", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "resource"),
    )
    op.create_index("instances_project_created", "instances", ["project", "created", "id"])
    op.drop_index("backups_project_updated", "backups")
    op.drop_index("backups_instance", "backups")
    op.create_index("backups_project_name", "backups", ["project", "name"])
    op.create_index("backups_project_created", "backups", ["project", "created", "id"])
    op.create_index("backups_created", "backups", ["created", "id"])
    op.create_index("backups_instance", "backups", ["instance_id", "created", "id"])
    op.create_index("backups_chain", "backups", ["chain_id"])
    op.create_index("backups_status", "backups", ["status"])
    op.drop_index("jobs_instance", "jobs")
    op.drop_index("jobs_backup", "jobs")
    op.create_index("jobs_project", "jobs", ["project", "created", "id"])
    op.create_index("jobs_instance", "jobs", ["instance_id", "created", "id"])
    op.create_index("jobs_backup", "jobs", ["backup_id", "created", "id"])
