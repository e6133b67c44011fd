"""The application: routers, errors, the gate in front of them."""

from __future__ import annotations

from fastapi import Depends, FastAPI
from starlette.types import Lifespan

from strongroom import __version__
from strongroom.api import (
    _absent,
    _backups,
    _catalog,
    _clusters,
    _databases,
    _datastores,
    _errors,
    _flavors,
    _hosts,
    _instance_checks,
    _instances,
    _jobs,
    _mgmt,
    _mgmt_instance,
    _openapi,
    _quotas,
    _records,
    _root,
    _site,
    _strategies,
    _users,
)
from strongroom.api._caller import PREFIX, authorized
from strongroom.api._gate import Gate
from strongroom.flows import Site
from strongroom.identity import Method, NoAuthentication

ROOMS = (
    *(
        _instances,
        _instance_checks,
        _clusters,
        _backups,
        _records,
        _strategies,
        _databases,
        _users,
        _root,
        _flavors,
        _datastores,
        _quotas,
        _jobs,
    ),
    *(_mgmt, _mgmt_instance, _hosts, _catalog, _site, _absent),
)
"""What is there below a project, in the order of the page that describes it."""

DESCRIPTION = """\
OpenStack Trove's API v1.0, so that its clients work unchanged, with extensions: extra fields (marked), extra actions,
`/jobs`, `/catalog`, `/hosts` and `/checks`. Names are accepted wherever ids are; a name that several things have is a
conflict (409). A reply that starts a job names it in the header `Strongroom-Job`.
"""


def create_app(control: Site, lifespan: Lifespan[FastAPI] | None = None, *, method: Method | None = None) -> FastAPI:
    """The API in front of ``control``; ``method`` tells who asks (default: no authentication, loopback only)."""
    method = method or NoAuthentication()
    app = FastAPI(
        title="Strongroom",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load scripts from a CDN
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.control = control
    app.state.method = method
    app.add_middleware(Gate, method=method)
    _errors.install(app)
    app.include_router(_site.open_router)
    app.include_router(_hosts.open_router)
    for room in ROOMS:
        app.include_router(room.router, prefix=PREFIX, dependencies=[Depends(authorized)])
    _openapi.describe(app)
    return app
