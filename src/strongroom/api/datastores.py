"""``/datastores`` and their versions: what is installed on the hosts. Their ids are derived from their names and never change."""

from __future__ import annotations

from pydantic import Field

from strongroom.api.http.caller import Caller, CallerDep, ControlDep, project_router
from strongroom.api.http.fields import Link, Segment, View
from strongroom.catalog.queries import installed
from strongroom.errors import NotFound
from strongroom.flows import Site, version_id

router = project_router("datastores")


class VersionView(View):
    """A version of a datastore."""

    id: str
    name: str = Field(description="The series: 10.11.")
    version: str = Field(description="The full version, the newest installed: 10.11.19.")
    datastore: str = Field(description="Id of the datastore.")
    active: bool = True
    links: list[Link]


class DatastoreView(View):
    """A datastore."""

    id: str
    name: str
    versions: list[VersionView]
    default_version: str = Field(description="Id of the default version for new instances.")
    links: list[Link]


class OneDatastore(View):
    """Reply about one datastore."""

    datastore: DatastoreView


class ManyDatastores(View):
    """Reply with all datastores."""

    datastores: list[DatastoreView]


class OneVersion(View):
    """Reply about one version."""

    version: VersionView


class ManyVersions(View):
    """Reply with all versions of a datastore."""

    versions: list[VersionView]


class ManagedVersion(View):
    """A version, with Trove's fields for administrators."""

    id: str
    name: str
    version: str
    datastore_id: str
    datastore_name: str
    datastore_manager: str
    active: bool
    default: bool
    image: str = ""
    image_tags: list[str] = Field(default_factory=list)
    packages: list[str] = Field(default_factory=list)


class OneManagedVersion(View):
    """Reply about one version."""

    version: ManagedVersion


class ManyManagedVersions(View):
    """Reply with all versions."""

    versions: list[ManagedVersion]


@router.get("/mgmt/datastore-versions")
def managed_versions(caller: CallerDep, control: ControlDep) -> ManyManagedVersions:
    """Versions of all datastores, for administrators."""
    return ManyManagedVersions(versions=_managed(caller, control))


@router.get("/mgmt/datastore-versions/{version}")
def managed_version(version: Segment, caller: CallerDep, control: ControlDep) -> OneManagedVersion:
    """One version of any datastore, by its id."""
    for found in _managed(caller, control):
        if found.id == version:
            return OneManagedVersion(version=found)
    raise NotFound(f"datastore version {version} cannot be found", remedy="See `strongroom datastore list`.")


def _managed(caller: Caller, control: Site) -> list[ManagedVersion]:
    return [
        ManagedVersion(
            id=version.id,
            name=version.name,
            version=version.version,
            datastore_id=datastore.id,
            datastore_name=datastore.name,
            datastore_manager=datastore.name,
            active=version.active,
            default=version.id == datastore.default_version,
        )
        for datastore in _all(caller, control)
        for version in datastore.versions
    ]


@router.get("/datastores")
def index(caller: CallerDep, control: ControlDep) -> ManyDatastores:
    """Datastores installed on any host."""
    return ManyDatastores(datastores=_all(caller, control))


@router.get("/datastores/versions/{version}")
def show_any_version(version: Segment, caller: CallerDep, control: ControlDep) -> OneVersion:
    """One version by its id."""
    for datastore in _all(caller, control):
        for found in datastore.versions:
            if found.id == version:
                return OneVersion(version=found)
    raise NotFound(f"datastore version {version} cannot be found", remedy="See `strongroom datastore list`.")


@router.get("/datastores/{datastore}")
def show(datastore: Segment, caller: CallerDep, control: ControlDep) -> OneDatastore:
    """One datastore, by id or name."""
    return OneDatastore(datastore=_one(datastore, caller, control))


@router.get("/datastores/{datastore}/versions")
def versions(datastore: Segment, caller: CallerDep, control: ControlDep) -> ManyVersions:
    """Versions of a datastore, oldest first."""
    return ManyVersions(versions=_one(datastore, caller, control).versions)


@router.get("/datastores/{datastore}/versions/{version}")
def show_version(datastore: Segment, version: Segment, caller: CallerDep, control: ControlDep) -> OneVersion:
    """One version, by id, series or full version."""
    found = _one(datastore, caller, control)
    for candidate in found.versions:
        if version in (candidate.id, candidate.name, candidate.version):
            return OneVersion(version=candidate)
    raise NotFound(
        f"version {version} of datastore {found.name} cannot be found",
        remedy=f"Installed: {', '.join(v.name for v in found.versions)}.",
    )


def _all(caller: Caller, control: Site) -> list[DatastoreView]:
    with control.catalog.read() as session:
        found = installed(session)
    return [_view(name, numbers, caller) for name, numbers in found.items()]


def _one(ref: str, caller: Caller, control: Site) -> DatastoreView:
    known = _all(caller, control)
    for datastore in known:
        if ref in (datastore.id, datastore.name):
            return datastore
    raise NotFound(f"datastore {ref} cannot be found", remedy=f"Installed: {', '.join(d.name for d in known) or 'none'}.")


def _view(name: str, numbers: dict[str, str], caller: Caller) -> DatastoreView:
    datastore = version_id(name)
    listed = []
    for series, number in numbers.items():
        key = version_id(name, series)
        links = caller.links(f"datastores/{datastore}/versions", key)
        listed.append(VersionView(id=key, name=series, version=number, datastore=datastore, active=True, links=links))
    return DatastoreView(
        id=datastore, name=name, versions=listed, default_version=listed[-1].id, links=caller.links("datastores", datastore)
    )
