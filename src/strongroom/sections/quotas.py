"""The section ``[quotas]`` of the configuration."""

from __future__ import annotations

from pydantic import Field

from strongroom.sections.section import Section


class Quotas(Section):
    """Limits of each project that has no limits of its own (`openstack database quota update`). -1: no limit."""

    instances: int = Field(-1, ge=-1, description="Number of instances.")
    ram: int = Field(-1, ge=-1, description="Memory of all instances in MB, by their flavors.")
    volumes: int = Field(-1, ge=-1, description="Size of the volumes of all instances in GB.")
    backups: int = Field(-1, ge=-1, description="Number of backups, including failed ones.")
