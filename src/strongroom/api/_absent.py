"""What Trove has and this service does not: lists are empty, the rest says so, so that clients go on with what there is."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from strongroom.api._caller import CallerDep
from strongroom.api._fields import Body, Segment, View
from strongroom.errors import NotFound, Unsupported

router = APIRouter(tags=["not supported"])

REMEDY = "See /openapi.json for what this service does."


class Anything(Body):
    """A body that is not looked at."""


class NoClusters(View):
    """There are none."""

    clusters: list[Any]


class NoConfigurations(View):
    """There are none."""

    configurations: list[Any]


class NoModules(View):
    """There are none."""

    modules: list[Any]


@router.get("/clusters")
def clusters(caller: CallerDep) -> NoClusters:
    """No clusters are made by this service."""
    return NoClusters(clusters=[])


@router.get("/configurations")
def configurations(caller: CallerDep) -> NoConfigurations:
    """No groups of options are kept by this service."""
    return NoConfigurations(configurations=[])


@router.get("/modules")
def modules(caller: CallerDep) -> NoModules:
    """No modules are kept by this service."""
    return NoModules(modules=[])


@router.post("/clusters")
@router.post("/configurations")
@router.post("/modules")
def create(caller: CallerDep, body: Anything | None = None) -> Response:
    """Always refused."""
    raise Unsupported("clusters, configurations and modules are not supported", remedy=REMEDY)


@router.get("/clusters/{thing}")
@router.delete("/clusters/{thing}")
@router.get("/configurations/{thing}")
@router.delete("/configurations/{thing}")
@router.get("/modules/{thing}")
@router.delete("/modules/{thing}")
def one(thing: Segment, caller: CallerDep) -> Response:
    """Always 404: there are none."""
    raise NotFound(f"{thing[:255]} cannot be found: clusters, configurations and modules are not supported", remedy=REMEDY)


@router.get("/instances/{instance}/configuration")
@router.get("/instances/{instance}/log")
@router.post("/instances/{instance}/log")
@router.get("/instances/{instance}/modules")
@router.get("/instances/{instance}/ssl")
@router.post("/instances/{instance}/ssl")
def of_instance(instance: Segment, caller: CallerDep, body: Anything | None = None) -> Response:
    """Always refused."""
    raise Unsupported("configuration, logs, modules and certificates of instances are not supported", remedy=REMEDY)
