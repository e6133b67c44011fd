"""``/catalog``, an extension: what the service remembers of the store, found again."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import Field

from strongroom.api.http.caller import CallerDep, ControlDep, accepted
from strongroom.api.http.fields import Container, OwnBody
from strongroom.flows import request_rebuild

router = APIRouter(tags=["catalog"])


class RebuildWish(OwnBody):
    """How much of the store, and whether it counts."""

    container: Container = Field("", description="Only this container. Default: all.")
    dry_run: bool = Field(False, description="Only tell what would be added.")


class Rebuild(OwnBody):
    """Body of a rebuild."""

    rebuild: RebuildWish = Field(default_factory=RebuildWish)


@router.post("/catalog/rebuild", status_code=202)
def rebuild(body: Rebuild, caller: CallerDep, control: ControlDep) -> Response:
    """Find every backup that is in the store and not in the catalog; the output of the job tells of each. For administrators."""
    wish = body.rebuild
    return accepted(request_rebuild(control, caller.project, container=wish.container or None, dry_run=wish.dry_run))
