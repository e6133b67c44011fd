"""``/catalog``, an extension: rebuilding the catalog from the store."""

from __future__ import annotations

from fastapi import Response
from pydantic import Field

from strongroom.api.http.caller import CallerDep, ControlDep, accepted, project_router
from strongroom.api.http.fields import Container, OwnBody
from strongroom.flows.kinds.rebuild import request_rebuild

router = project_router("catalog")


class RebuildOptions(OwnBody):
    """What to rebuild."""

    container: Container = Field("", description="Only this container. Default: all.")
    dry_run: bool = Field(False, description="Only report what would be added.")


class Rebuild(OwnBody):
    """Body of a rebuild."""

    rebuild: RebuildOptions = Field(default_factory=RebuildOptions)


@router.post("/catalog/rebuild", status_code=202)
def rebuild(body: Rebuild, caller: CallerDep, control: ControlDep) -> Response:
    """Add every backup in the store that the catalog lacks; the job's output lists them. Administrators only."""
    requested = body.rebuild
    return accepted(request_rebuild(control, caller.project, container=requested.container or None, dry_run=requested.dry_run))
