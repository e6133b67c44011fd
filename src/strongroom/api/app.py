"""The application: routers, errors, middleware."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.types import Lifespan

from strongroom import __version__
from strongroom.api import catalog, datastores, flavors, hosts, jobs, records, recovery, retention, site, unsupported
from strongroom.api.backups import routes as backups
from strongroom.api.backups import strategies
from strongroom.api.clusters import routes as clusters
from strongroom.api.databases import root, users
from strongroom.api.databases import routes as databases
from strongroom.api.http import errors, openapi
from strongroom.api.http.caller import authorized
from strongroom.api.http.gate import Gate
from strongroom.api.instances import checks
from strongroom.api.instances import routes as instances
from strongroom.api.management import details, quotas
from strongroom.api.management import instances as managed_instances
from strongroom.api.metrics import routes as metrics
from strongroom.api.metrics.page import MetricsPage
from strongroom.api.policies import routes as policies
from strongroom.flows import Site
from strongroom.identity import Method, NoAuthentication

ROUTERS = (
    instances.router,
    checks.router,
    clusters.router,
    backups.router,
    records.router,
    strategies.router,
    policies.router,
    databases.router,
    users.router,
    root.router,
    flavors.router,
    datastores.router,
    quotas.router,
    retention.router,
    recovery.router,
    jobs.router,
    managed_instances.router,
    details.router,
    hosts.router,
    catalog.router,
    site.router,
    metrics.router,
    unsupported.router,
)
"""Routers below a project, in the order of the API description. A new router is added here."""

DESCRIPTION = """\
OpenStack Trove's API v1.0, so that its clients work unchanged, with extensions: extra fields (marked), extra actions,
`/policies`, `/schedules`, `/jobs`, `/catalog`, `/hosts`, `/checks` and `/metrics`. Names are accepted instead of ids; an
ambiguous name is a conflict (409). If a request starts a job, the reply's header `Strongroom-Job` contains its id.
"""


def create_app(control: Site, lifespan: Lifespan[FastAPI] | None = None, *, method: Method | None = None) -> FastAPI:
    """The API in front of ``control``; ``method`` authenticates requests (default: none, loopback only)."""
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
    app.state.metrics = MetricsPage(control)
    app.add_middleware(Gate, method=method)
    errors.register_handlers(app)
    for router in ROUTERS:
        if authorized not in [dependency.dependency for dependency in router.dependencies]:
            raise TypeError(f"the router {router.tags} is not from project_router: its routes would be open to everybody")
    for router in (site.open_router, hosts.open_router, metrics.open_router, *ROUTERS):
        app.router.routes.extend(router.routes)
    openapi.describe(app)
    return app
