"""The service in one process: catalog, embedded agent, engine, monitor, API."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable

import httpx
import structlog
from uvicorn.config import Config

from strongroom import __version__
from strongroom.agent import Agent, AgentClient, store_gid
from strongroom.agent.serving import Server, listen, prepare_data_dir
from strongroom.api.app import create_app
from strongroom.api.http.protocol import HttpProtocol
from strongroom.artifact import check_recipients
from strongroom.catalog import open_catalog
from strongroom.errors import ConfigurationError
from strongroom.flows import CHORES, ChoreRunner, Engine, Monitor, connect_hosts, declare_policies, open_site
from strongroom.identity import open_method
from strongroom.settings import Settings
from strongroom.storage import open_store

log = structlog.get_logger()


def check_tokens(settings: Settings) -> None:
    """Raise ConfigurationError if the store requires tokens that users cannot have, or another account."""
    storage = settings.storage
    if storage.auth == "service":
        return
    if settings.identity.method != "keystone" or storage.driver != "swift" or storage.auth_version != "3":
        raise ConfigurationError(
            'storage.auth = "user" requires authentication by Keystone and a Swift that accepts its tokens',
            remedy='Set identity.method = "keystone", storage.driver = "swift" and storage.auth_version = "3".',
        )
    if storage.account not in ("service", "project"):
        raise ConfigurationError(
            f'with storage.auth = "user", backups are stored in the account of each project, not in {storage.account}',
            remedy="Leave storage.account out.",
        )


def _make_client_factory(agent: Agent) -> Callable[[], AgentClient]:
    transport = httpx.ASGITransport(app=agent.app, raise_app_exceptions=False)
    return lambda: AgentClient(transport=transport)


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Database servers and running jobs outlive it. Raises ConfigurationError before it listens."""
    service = settings.service
    method = open_method(settings)
    check_tokens(settings)
    check_recipients(settings.encryption.recipients)
    prepare_data_dir(service.data_dir)
    bound = listen(service.host, service.port)
    catalog = open_catalog(settings)
    agent = Agent(settings) if settings.agent.embedded else None
    store = open_store(settings.storage, settings.store_path, gid=store_gid(settings))
    control = open_site(settings, catalog, store, {settings.agent.name: _make_client_factory(agent)} if agent else {})
    connect_hosts(control)
    engine = Engine(control)
    monitor = Monitor(control, engine)
    chores = ChoreRunner(control, CHORES)
    control.alarm.wake = chores.wake
    if agent is not None:
        agent.on_change = monitor.wake
    await asyncio.to_thread(engine.lock)
    await asyncio.to_thread(declare_policies, control)  # under the lock: a service that is refused must not change policies
    if agent is not None:
        await asyncio.to_thread(agent.start)
    try:
        await monitor.query_hosts()
        await asyncio.to_thread(engine.start)
        monitor.start()
        chores.start()
        host, port = bound.getsockname()[:2]
        server = Server(
            Config(
                create_app(control, method=method),
                http=HttpProtocol,
                lifespan="off",
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=2,
                server_header=False,
                proxy_headers=bool(service.proxies),  # others could forge their address
                forwarded_allow_ips=service.proxies,
            )
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, setattr, server, "should_exit", True)
        sys.setswitchinterval(0.001)  # so that threads of jobs delay replies less
        gc.freeze()  # permanent objects are not scanned again, which would stop replies for 0.2 s
        gc.enable()
        gc.set_threshold(10_000)  # a reply creates some thousand objects and hardly ever a cycle
        shown = f"[{host}]" if ":" in host else host
        log.info("strongroom serves", url=f"http://{shown}:{port}", data_dir=str(service.data_dir), version=__version__)
        await server.serve(sockets=[bound])
    finally:
        await chores.stop()
        await monitor.stop()
        await asyncio.to_thread(engine.stop)
        if agent is not None:
            await asyncio.to_thread(agent.stop)
        store.close()
        catalog.close()
        bound.close()
        log.info("strongroom stopped", servers="left running", jobs="left running")
