"""What Trove has and this service does not: lists are empty, the rest says so, so that clients go on with what there is."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from strongroom.api._caller import CallerDep
from strongroom.api._fields import Segment, View
from strongroom.errors import NotFound, Unsupported

router = APIRouter(tags=["not supported"])

REMEDY = "See /openapi.json for what this service does."


class NoConfigurations(View):
    """There are none."""

    configurations: list[Any]


class NoModules(View):
    """There are none."""

    modules: list[Any]


@router.get("/configurations")
def configurations(caller: CallerDep) -> NoConfigurations:
    """No groups of options are kept by this service."""
    return NoConfigurations(configurations=[])


@router.get("/modules")
def modules(caller: CallerDep) -> NoModules:
    """No modules are kept by this service."""
    return NoModules(modules=[])


@router.post("/configurations", status_code=501)
@router.post("/modules", status_code=501)
def create(caller: CallerDep) -> Response:
    """Always refused."""
    raise Unsupported("configurations and modules are not supported", remedy=REMEDY)


@router.get("/configurations/{thing}", status_code=404)
@router.delete("/configurations/{thing}", status_code=404)
@router.get("/modules/{thing}", status_code=404)
@router.delete("/modules/{thing}", status_code=404)
def one(thing: Segment, caller: CallerDep) -> Response:
    """Always 404: there are none."""
    raise NotFound(f"{thing[:255]} cannot be found: configurations and modules are not supported", remedy=REMEDY)


@router.get("/instances/{instance}/configuration", status_code=501)
@router.get("/instances/{instance}/log", status_code=501)
@router.post("/instances/{instance}/log", status_code=501)
@router.get("/instances/{instance}/modules", status_code=501)
@router.get("/instances/{instance}/ssl", status_code=501)
@router.post("/instances/{instance}/ssl", status_code=501)
def of_instance(instance: Segment, caller: CallerDep) -> Response:
    """Always refused."""
    raise Unsupported("configuration, logs, modules and certificates of instances are not supported", remedy=REMEDY)
