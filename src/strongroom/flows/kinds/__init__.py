"""All kinds of jobs with their requests. A new kind is a module here and one line of this list."""

from strongroom.flows.kind import register
from strongroom.flows.kinds import (
    backup,
    cluster_actions,
    cluster_create,
    cluster_deletion,
    cluster_restore,
    create,
    deletion,
    final_deletion,
    foreign,
    label,
    lifecycle,
    rebuild,
    resize,
    restore,
    verify,
)

register(
    backup.BACKUP,
    verify.VERIFY,
    deletion.DELETE_BACKUP,
    foreign.IMPORT,
    label.LABEL,
    rebuild.REBUILD,
    create.CREATE,
    restore.RESTORE,
    restore.PREPARE,
    resize.RESIZE,
    *lifecycle.KINDS,
    *final_deletion.KINDS,
    cluster_create.CREATE,
    cluster_create.ADOPT,
    cluster_restore.RESTORE,
    *cluster_actions.KINDS,
    cluster_deletion.DELETE,
)
