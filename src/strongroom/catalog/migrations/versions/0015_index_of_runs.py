"""An index for the list of runs"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("policy_runs_project", "policy_runs", ["project", "nominal"])
