"""Galera clusters, their nodes, and the journal of their restores"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "clusters",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("runtime", sa.String(length=255), nullable=False),
        sa.Column("datastore", sa.String(length=255), nullable=False),
        sa.Column("series", sa.String(length=255), nullable=False),
        sa.Column("wsrep_name", sa.String(length=255), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("state_uuid", sa.String(length=36), nullable=True),
        sa.Column("task", sa.String(length=255), nullable=True),
        sa.Column("fault", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("updated", sa.DateTime(), nullable=False),
        sa.Column("deleted", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("clusters_project_name", "clusters", ["project", "name"])
    op.create_index("clusters_project_created", "clusters", ["project", "created", "id"])
    op.create_table(
        "cluster_runs",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("cluster_id", sa.String(length=36), nullable=False),
        sa.Column("backup_id", sa.String(length=36), nullable=True),
        sa.Column("phase", sa.String(length=255), nullable=False),
        sa.Column("method", sa.String(length=255), nullable=False),
        sa.Column("nodes", sa.JSON(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("updated", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("cluster_runs_cluster", "cluster_runs", ["cluster_id", "created"])
    op.add_column("instances", sa.Column("cluster_id", sa.String(length=36), nullable=True))
    op.add_column("instances", sa.Column("node", sa.String(length=255), nullable=True))
    op.add_column("instances", sa.Column("galera", sa.JSON(none_as_null=True), nullable=True))
    op.create_index("instances_cluster", "instances", ["cluster_id"])
    op.add_column("backups", sa.Column("cluster_id", sa.String(length=36), nullable=True))
    op.create_index("backups_cluster", "backups", ["cluster_id"])
    op.add_column("jobs", sa.Column("cluster_id", sa.String(length=36), nullable=True))
    op.create_index("jobs_cluster", "jobs", ["cluster_id", "created", "id"])
