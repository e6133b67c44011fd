"""``/flavors``: sizes for instances, from the settings."""

from __future__ import annotations

from pydantic import Field

from strongroom.api.http.caller import Caller, CallerDep, ControlDep, project_router
from strongroom.api.http.fields import Link, Segment, View
from strongroom.errors import InvalidRequest, NotFound
from strongroom.sections import Flavor

router = project_router("flavors")


class FlavorView(View):
    """A flavor."""

    id: int | None = Field(description="Null unless the name is a number, as in Trove; see str_id.")
    str_id: str
    name: str
    ram: int = Field(description="MB.")
    vcpus: int
    disk: int = Field(description="GB.")
    ephemeral: int
    links: list[Link]


class OneFlavor(View):
    """Reply about one flavor."""

    flavor: FlavorView


class ManyFlavors(View):
    """Reply with all flavors."""

    flavors: list[FlavorView]


@router.get("/flavors")
@router.get("/datastores/{datastore}/versions/{version}/flavors")
def index(caller: CallerDep, control: ControlDep) -> ManyFlavors:
    """All flavors, smallest first. Every datastore supports all of them."""
    sizes = sorted(control.settings.flavors.items(), key=lambda f: (f[1].ram, f[0]))
    return ManyFlavors(flavors=[_view(name, flavor, caller) for name, flavor in sizes])


@router.get("/flavors/{flavor}")
def show(flavor: Segment, caller: CallerDep, control: ControlDep) -> OneFlavor:
    """One flavor, by its name or an alias."""
    try:
        name = control.settings.find_flavor(flavor)
    except InvalidRequest as error:
        raise NotFound(error.message, remedy=error.remedy) from None
    return OneFlavor(flavor=_view(name, control.settings.flavors[name], caller))


def _view(name: str, flavor: Flavor, caller: Caller) -> FlavorView:
    return FlavorView(
        id=int(name) if name.isascii() and name.isdigit() else None,
        str_id=name,
        name=name,
        ram=flavor.ram,
        vcpus=flavor.vcpus,
        disk=flavor.disk,
        ephemeral=0,
        links=caller.links("flavors", name),
    )
