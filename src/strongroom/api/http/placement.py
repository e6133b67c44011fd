"""Parameters of plans: what a restore to a new instance may choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query

from strongroom.api.http.caller import Caller
from strongroom.api.http.fields import Name
from strongroom.errors import InvalidRequest
from strongroom.identity import authorize


@dataclass(frozen=True)
class Placement:
    """Where the new instance is placed, and its size."""

    host: str | None
    flavor: str | None
    size: int | None
    tablespaces: list[str]

    def check(self, caller: Caller, in_place: str | None) -> None:
        """Raises InvalidRequest for a restore in place that chooses something, Forbidden if the caller may not choose a host."""
        if in_place is not None and not (self.host is None and self.flavor is None and self.size is None):
            raise InvalidRequest(
                "a restore in place keeps host, flavor and size of the instance", remedy="Leave host, flavor and size out."
            )
        if self.host is not None:
            authorize(caller.principal, "POST /instances host")


def _read(
    host: Annotated[
        str | None, Query(description="Host of the new instance, for administrators. Default: the host the service would choose.")
    ] = None,
    flavor: Annotated[str | None, Query(description="Flavor of the new instance. Default: the service's.")] = None,
    size: Annotated[int | None, Query(ge=1, lt=10**9, description="GB of the new instance. Default: what it needs.")] = None,
    tablespace: Annotated[list[Name], Query(description="PostgreSQL: tablespaces to restore to separate directories.")] = [],  # noqa: B006 - FastAPI copies it
) -> Placement:
    return Placement(host, flavor, size, tablespace)


PlacementDep = Annotated[Placement, Depends(_read)]
