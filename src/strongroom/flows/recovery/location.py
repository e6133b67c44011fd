"""Where the log archive of an instance is in the store."""

from __future__ import annotations

from strongroom.archive import LogLocation
from strongroom.catalog import Instance
from strongroom.flows.site import Site
from strongroom.storage import Store
from strongroom.worker.spec import StorageSpec


def locate_log(site: Site, instance: Instance) -> LogLocation:
    """The location of the log archive. A node of a cluster is a source of the log of its cluster.

    It is always in the container of the configuration: a backup strategy can change, and that must not cut the log in two.
    """
    return LogLocation(container=site.settings.storage.container, database=instance.cluster_id or instance.id, source=instance.id)


def log_of(site: Site, instance: Instance) -> tuple[StorageSpec, LogLocation]:
    """The store of the log archive, with credentials for a worker or a duty, and the location in it."""
    return site.stores.spec_of_project(instance.project), locate_log(site, instance)


def open_log(site: Site, instance: Instance) -> tuple[Store, LogLocation]:
    """The store of the log archive, opened for the service, and the location in it."""
    return site.stores.of_project(instance.project), locate_log(site, instance)
