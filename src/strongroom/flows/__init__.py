"""The durable workflows, and the requests that start them."""

from strongroom.catalog.find import find_backup, find_instance, find_job
from strongroom.flows._backups import request_backup, request_delete_backup, request_verify
from strongroom.flows._control import Control
from strongroom.flows._engine import Engine
from strongroom.flows._hosts import connect_hosts, join_host, request_host, request_remove_host
from strongroom.flows._import import request_import, request_restore_from
from strongroom.flows._instances import (
    request_action,
    request_delete_instance,
    request_instance,
    request_reset,
    request_restore,
)
from strongroom.flows._jobs import request_cancel, wait_job
from strongroom.flows._monitor import Monitor
from strongroom.flows._rebuild import request_rebuild
from strongroom.flows._resize import request_resize_flavor, request_resize_volume
from strongroom.flows._versions import version_id

__all__ = [
    "Control",
    "Engine",
    "Monitor",
    "connect_hosts",
    "find_backup",
    "find_instance",
    "find_job",
    "join_host",
    "request_action",
    "request_backup",
    "request_cancel",
    "request_delete_backup",
    "request_delete_instance",
    "request_host",
    "request_import",
    "request_instance",
    "request_rebuild",
    "request_remove_host",
    "request_reset",
    "request_resize_flavor",
    "request_resize_volume",
    "request_restore",
    "request_restore_from",
    "request_verify",
    "version_id",
    "wait_job",
]
