"""What the agent knows of its host."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime

from strongroom import __version__
from strongroom.agent.host.versions import list_versions
from strongroom.agent.models import HostView
from strongroom.settings import Settings
from strongroom.system.disks import measure_free_space


def describe_host(settings: Settings, jobs_running: int) -> HostView:
    """The host as it is now."""
    return HostView(
        name=settings.agent.name,
        hostname=socket.gethostname(),
        version=__version__,
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        free_bytes=measure_free_space(settings.service.data_dir),
        pool=settings.agent.pool,
        versions=list_versions(settings),
        jobs_running=jobs_running,
        jobs_limit=settings.agent.jobs,
        time=datetime.now(UTC),
    )
