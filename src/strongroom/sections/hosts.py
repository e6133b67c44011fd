"""The section ``[hosts]`` of the configuration."""

from __future__ import annotations

from pydantic import Field

from strongroom.sections.section import Section


class Hosts(Section):
    """How the service monitors hosts and places instances on them."""

    silent_after: float = Field(
        25.0, ge=1, description="Seconds without an answer after which a host is shown as `silent`: it is unreachable."
    )
    lost_after: float = Field(
        60.0,
        ge=1,
        description="Seconds without an answer after which the jobs of a host fail. If they are still running when the host is "
        "reachable again, they are cancelled.",
    )
    token_life: float = Field(3600.0, ge=1, description="Seconds for which a token of `strongroom host add` is valid.")
    overcommit: float = Field(
        1.5, gt=0, description="Limit for placing new instances: the sum of their flavors' memory, as a multiple of the host's."
    )
    duties_interval: float = Field(
        10.0, gt=0, description="Seconds between two queries of the log archives of hosts. Only while there are any."
    )
