"""Routes of Trove's that this service does not support: lists are empty, other requests are refused."""

from __future__ import annotations

from typing import Any

from fastapi import Response

from strongroom.api.http.caller import CallerDep, project_router
from strongroom.api.http.fields import Segment, View
from strongroom.errors import NotFound, Unsupported

router = project_router("not supported")

REMEDY = "See /openapi.json for the supported requests."


class NoConfigurations(View):
    """Always empty."""

    configurations: list[Any]


class NoModules(View):
    """Always empty."""

    modules: list[Any]


@router.get("/configurations")
def configurations(caller: CallerDep) -> NoConfigurations:
    """Configuration groups; always empty."""
    return NoConfigurations(configurations=[])


@router.get("/modules")
def modules(caller: CallerDep) -> NoModules:
    """Modules; always empty."""
    return NoModules(modules=[])


class NoVolumeTypes(View):
    """Always empty."""

    volume_types: list[Any]


@router.get("/volume-types")
@router.get("/datastores/{datastore}/versions/{version}/volume-types")
def volume_types(caller: CallerDep) -> NoVolumeTypes:
    """Volume types; always empty, and any type is accepted."""
    return NoVolumeTypes(volume_types=[])


@router.get("/datastores/{datastore}/versions/{version}/parameters", status_code=501)
@router.get("/datastores/{datastore}/versions/{version}/parameters/{thing}", status_code=501)
@router.get("/datastores/versions/{version}/parameters", status_code=501)
@router.get("/datastores/versions/{version}/parameters/{thing}", status_code=501)
@router.get("/mgmt/datastores/versions/{version}/parameters", status_code=501)
def parameters(version: Segment, caller: CallerDep) -> Response:
    """Always refused."""
    raise Unsupported("configuration groups and their parameters are not supported", remedy=REMEDY)


@router.post("/mgmt/datastore-versions", status_code=501)
@router.patch("/mgmt/datastore-versions/{version}", status_code=501)
@router.put("/mgmt/datastore-versions/{version}", status_code=501)
@router.delete("/mgmt/datastore-versions/{version}", status_code=501)
def change_versions(caller: CallerDep) -> Response:
    """Always refused."""
    raise Unsupported(
        "datastore versions cannot be registered or changed; they follow from the packages installed on the hosts",
        remedy="Install the packages of the database on a host; see `strongroom datastore list`.",
    )


@router.post("/configurations", status_code=501)
@router.post("/modules", status_code=501)
def create(caller: CallerDep) -> Response:
    """Always refused."""
    raise Unsupported("configurations and modules are not supported", remedy=REMEDY)


@router.get("/configurations/{thing}", status_code=404)
@router.get("/configurations/{thing}/instances", status_code=404)
@router.put("/configurations/{thing}", status_code=404)
@router.patch("/configurations/{thing}", status_code=404)
@router.delete("/configurations/{thing}", status_code=404)
@router.get("/modules/{thing}", status_code=404)
@router.get("/modules/{thing}/instances", status_code=404)
@router.put("/modules/{thing}", status_code=404)
@router.delete("/modules/{thing}", status_code=404)
def one(thing: Segment, caller: CallerDep) -> Response:
    """Always 404: there are none."""
    raise NotFound(f"{thing[:255]} cannot be found: configurations and modules are not supported", remedy=REMEDY)


@router.get("/instances/{instance}/configuration", status_code=501)
@router.get("/instances/{instance}/log", status_code=501)
@router.post("/instances/{instance}/log", status_code=501)
@router.get("/instances/{instance}/modules", status_code=501)
@router.post("/instances/{instance}/modules", status_code=501)
@router.delete("/instances/{instance}/modules/{thing}", status_code=501)
@router.get("/instances/{instance}/ssl", status_code=501)
@router.post("/instances/{instance}/ssl", status_code=501)
def of_instance(instance: Segment, caller: CallerDep) -> Response:
    """Always refused."""
    raise Unsupported("configuration, logs, modules and certificates of instances are not supported", remedy=REMEDY)
