"""Policies, their attachments, schedules and runs, and incidents"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "policies",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("project", sa.String(255), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("declared", sa.Boolean(), nullable=False),
        sa.Column("anchor", sa.DateTime(), nullable=False),
        sa.Column("paused", sa.DateTime(), nullable=True),
        sa.Column("paused_by", sa.String(255), nullable=False),
        sa.Column("paused_reason", sa.String(255), nullable=False),
        sa.Column("paused_until", sa.DateTime(), nullable=True),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("created_by", sa.String(255), nullable=False),
        sa.Column("updated", sa.DateTime(), nullable=False),
        sa.Column("updated_by", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project", "name", name="policies_project_name"),
    )
    op.create_table(
        "policy_attachments",
        sa.Column("project", sa.String(255), nullable=False),
        sa.Column("database_id", sa.String(36), nullable=False),
        sa.Column("policy_id", sa.String(36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("created_by", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("project", "database_id"),
    )
    op.create_index("policy_attachments_policy", "policy_attachments", ["policy_id"])
    op.create_table(
        "schedules",
        sa.Column("database_id", sa.String(36), nullable=False),
        sa.Column("policy_id", sa.String(36), nullable=False),
        sa.Column("project", sa.String(255), nullable=False),
        sa.Column("handled", sa.DateTime(), nullable=False),
        sa.Column("wake", sa.DateTime(), nullable=True),
        sa.Column("first", sa.DateTime(), nullable=True),
        sa.Column("full_owed", sa.Boolean(), nullable=False),
        sa.Column("run_id", sa.String(36), nullable=True),
        sa.Column("retry", sa.DateTime(), nullable=True),
        sa.Column("skipped", sa.BigInteger(), nullable=False),
        sa.Column("waiting", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("database_id"),
    )
    op.create_index("schedules_wake", "schedules", ["wake"])
    op.create_index("schedules_policy", "schedules", ["policy_id"])
    op.create_table(
        "policy_runs",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("project", sa.String(255), nullable=False),
        sa.Column("policy_id", sa.String(36), nullable=False),
        sa.Column("database_id", sa.String(36), nullable=False),
        sa.Column("nominal", sa.DateTime(), nullable=False),
        sa.Column("last", sa.DateTime(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(255), nullable=False),
        sa.Column("outcome", sa.String(255), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by_hand", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.String(36), nullable=True),
        sa.Column("backup_id", sa.String(36), nullable=True),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("finished", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("policy_runs_database", "policy_runs", ["database_id", "nominal"])
    op.create_index("policy_runs_backup", "policy_runs", ["backup_id"])
    op.create_table(
        "incidents",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("project", sa.String(255), nullable=False),
        sa.Column("database_id", sa.String(36), nullable=False),
        sa.Column("database_name", sa.String(255), nullable=False),
        sa.Column("condition", sa.String(255), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("remedy", sa.Text(), nullable=False),
        sa.Column("opened", sa.DateTime(), nullable=False),
        sa.Column("updated", sa.DateTime(), nullable=False),
        sa.Column("closed", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    is_open = sa.text("closed is null")
    op.create_index(
        "incidents_open", "incidents", ["database_id", "condition"], unique=True, sqlite_where=is_open, postgresql_where=is_open
    )
    op.create_index("incidents_project", "incidents", ["project", "opened"])
