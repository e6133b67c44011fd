"""Every kind of job, a module for each thing that jobs are about. A new kind is added to this list."""

from strongroom.flows.kind import register
from strongroom.flows.kinds import backup, clusters, deletion, imports, lifecycle, restore, verify

register(
    backup.BACKUP,
    verify.VERIFY,
    deletion.DELETE_BACKUP,
    imports.IMPORT,
    imports.REBUILD,
    restore.CREATE,
    restore.RESTORE,
    restore.PREPARE,
    *lifecycle.KINDS,
    *clusters.KINDS,
)
