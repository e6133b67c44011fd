"""The service's database: SQLAlchemy tables, queries, Alembic migrations.

The rows of backups are a cache of the manifests in the store, which are authoritative. All other data is only in this database.
"""

from strongroom.catalog._engine import Catalog, database_url, open_catalog
from strongroom.catalog._log_archives import LogArchive
from strongroom.catalog._policies import Attachment, Incident, Policy, PolicyRun, Schedule
from strongroom.catalog._retention_tables import Confirmation, Expiration, Hold, Removal
from strongroom.catalog._tables import Backup, Cluster, Fact, Host, Instance, Job, Quota, Run, Strategy, now

__all__ = [
    "Attachment",
    "Backup",
    "Catalog",
    "Cluster",
    "Confirmation",
    "Expiration",
    "Fact",
    "Hold",
    "Host",
    "Incident",
    "Instance",
    "Job",
    "LogArchive",
    "Policy",
    "PolicyRun",
    "Quota",
    "Removal",
    "Run",
    "Schedule",
    "Strategy",
    "database_url",
    "now",
    "open_catalog",
]
