"""The product's record: what exists and what happened. SQLAlchemy tables, queries, Alembic migrations.

For backups the store is the truth and the rows are a cache of manifests; for everything else the rows are all there is.
"""

from strongroom.catalog._engine import Catalog, database_url, open_catalog
from strongroom.catalog._tables import Backup, Cluster, Host, Instance, Job, Quota, Run, Strategy, now

__all__ = [
    "Backup",
    "Catalog",
    "Cluster",
    "Host",
    "Instance",
    "Job",
    "Quota",
    "Run",
    "Strategy",
    "database_url",
    "now",
    "open_catalog",
]
