"""The whole service in one process: catalog, embedded agent, engine, monitor, and the API in front of them."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import structlog
import uvicorn

from strongroom import __version__
from strongroom.agent.app import Agent
from strongroom.agent.client import AgentClient
from strongroom.api._app import create_app
from strongroom.api._http import HttpProtocol
from strongroom.catalog import open_catalog
from strongroom.errors import ConfigurationError
from strongroom.flows import Control, Engine, Monitor
from strongroom.identity import open_method
from strongroom.settings import Settings
from strongroom.storage import open_store

log = structlog.get_logger()


def prepare_data_dir(path: Path) -> None:
    """Make the state directory: others may traverse it (database servers run as other users) but not list it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o711)
    except OSError as error:
        raise ConfigurationError(
            f"cannot use data directory {path}: {error.strerror}",
            remedy="Choose another with --data-dir, or make it for the user that runs strongroom.",
        ) from None
    if os.geteuid() == 0:
        for parent in path.resolve().parents:
            if not parent.stat().st_mode & 0o001:
                raise ConfigurationError(
                    f"database servers run as another user and cannot reach {path}: {parent} is closed to others",
                    remedy=f"Use a --data-dir outside of {parent}, or `chmod o+x {parent}`.",
                )


def check_tokens(settings: Settings) -> None:
    """Raise ConfigurationError when stores are to be used with tokens that callers do not have, or in another account."""
    storage = settings.storage
    if storage.auth == "service":
        return
    if settings.identity.method != "keystone" or storage.driver != "swift" or storage.auth_version != "3":
        raise ConfigurationError(
            'storage.auth = "user" needs callers with tokens of Keystone, and a Swift that knows them',
            remedy='Set identity.method = "keystone", storage.driver = "swift" and storage.auth_version = "3".',
        )
    if storage.account not in ("service", "project"):
        raise ConfigurationError(
            f'with storage.auth = "user" backups are in the account of each project, not in {storage.account}',
            remedy="Leave storage.account out.",
        )


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises ConfigurationError that says why not."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror}", remedy="Is another service there? Choose another --port."
        ) from None
    return bound


class _Server(uvicorn.Server):
    """uvicorn re-raises the signal that stopped it, which would end the process before the rest is stopped: no signals here."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Database servers and running jobs outlive it. Raises ConfigurationError before it serves."""
    service = settings.service
    method = open_method(settings)
    check_tokens(settings)
    prepare_data_dir(service.data_dir)
    bound = listen(service.host, service.port)
    agent = Agent(settings)
    transport = httpx.ASGITransport(app=agent.app, raise_app_exceptions=False)
    catalog = open_catalog(settings)
    store = open_store(settings.storage, settings.store_path, gid=agent.store_gid)
    control = Control(settings, catalog, store, {settings.agent.name: lambda: AgentClient(transport=transport)})
    engine = Engine(control)
    monitor = Monitor(control, engine)
    await asyncio.to_thread(engine.lock)
    await asyncio.to_thread(agent.start)
    try:
        await monitor.look()
        await asyncio.to_thread(engine.start)
        monitor.start()
        host, port = bound.getsockname()[:2]
        server = _Server(
            uvicorn.Config(
                create_app(control, method=method),
                http=HttpProtocol,
                lifespan="off",
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=2,
                server_header=False,
                proxy_headers=bool(service.proxies),  # anybody else could forge the address that they come from
                forwarded_allow_ips=service.proxies,
            )
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, setattr, server, "should_exit", True)
        gc.collect()
        gc.freeze()  # what was made so far stays: to look at all of it again took a fifth of a second without any answer
        sys.setswitchinterval(0.001)  # threads that look after jobs keep those who answer waiting less
        gc.set_threshold(50_000)  # an answer makes some thousand objects, and hardly ever a cycle: look for those less often
        shown = f"[{host}]" if ":" in host else host
        log.info("strongroom serves", url=f"http://{shown}:{port}", data_dir=str(service.data_dir), version=__version__)
        await server.serve(sockets=[bound])
    finally:
        await monitor.stop()
        await asyncio.to_thread(engine.stop)
        await asyncio.to_thread(agent.stop)
        store.close()
        catalog.close()
        bound.close()
        log.info("strongroom stopped", servers="left running", jobs="left running")
