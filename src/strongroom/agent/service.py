"""``strongroom agent``: the agent of a host as a process of its own, for the control plane that it joined."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import signal
import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import structlog
from pydantic import BaseModel, ConfigDict
from uvicorn.config import Config

from strongroom import __version__
from strongroom.agent.app import Agent
from strongroom.agent.checks import UNUSED, is_set
from strongroom.agent.connection import VERSION_HEADER
from strongroom.agent.joining import Token, join
from strongroom.agent.serving import Server, listen, prepare_data_dir
from strongroom.agent.tls import KeyPair, checked, key_pair
from strongroom.errors import ConfigurationError, InvalidRequest
from strongroom.settings import Settings
from strongroom.system.directories import make_directory
from strongroom.system.files import read_model, write_model

log = structlog.get_logger()


class Membership(BaseModel):
    """What the host knows since it joined. ``token`` is the hash of the token that it used."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    address: str
    port: int
    control: str
    token: str


async def serve_agent(settings: Settings, *, control_plane: str | None, token: Token | None) -> None:
    """Join if ``token`` was not used yet, then serve until SIGTERM. Database servers and jobs outlive it.

    Raises ConfigurationError, InvalidRequest, Unavailable before it serves.
    """
    home = settings.service.data_dir / "agent" / "control-plane"
    member = await asyncio.to_thread(_load, home)
    if token is None and member is None:
        raise ConfigurationError(
            "this host has not joined a control plane",
            remedy="Run `strongroom host add NAME` there, and give the token here: --control-plane URL --token-file FILE.",
        )
    prepare_data_dir(settings.service.data_dir)
    make_directory(home.parent, mode=0o711)
    pair = key_pair(home, "strongroom agent")
    if token is not None and (member is None or member.token != _hash(token)):
        if control_plane is None:
            raise InvalidRequest("--token-file needs the control plane to join", remedy="Name it: --control-plane URL.")
        address = settings.agent.address
        if address is None:
            address = await asyncio.to_thread(_source, control_plane)
        if ipaddress.ip_address(address).is_unspecified:
            raise InvalidRequest(f"agent.address {address} is not reachable from outside", remedy="Use an address of this host.")
        bound = listen(address, settings.agent.port)
        member = await asyncio.to_thread(_join, bound, control_plane, token, pair)
        await asyncio.to_thread(write_model, home / "member.json", member)
        log.info("joined", host=member.name, control_plane=control_plane)
    else:
        assert member is not None
        _refuse_another_address(settings, member)
        bound = listen(member.address, member.port)
    settings.agent.name = member.name
    control = home / "control.pem"
    control.write_text(checked(member.control))
    agent = Agent(settings)
    server = Server(
        Config(
            agent.app,
            lifespan="off",
            log_level="error",
            access_log=False,
            timeout_graceful_shutdown=2,
            server_header=False,
            headers=[(VERSION_HEADER, __version__)],
            proxy_headers=False,
            ssl_keyfile=pair.key_file,
            ssl_certfile=pair.certificate_file,
            ssl_ca_certs=str(control),
            ssl_cert_reqs=ssl.CERT_REQUIRED,
        )
    )
    await asyncio.to_thread(agent.start)
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, setattr, server, "should_exit", True)
        for section in UNUSED:
            if is_set(settings, section):
                log.warning(
                    "a section of the configuration has no effect on a host; jobs use that of the control plane", section=section
                )
        log.info("strongroom agent serves", host=member.name, address=member.address, port=member.port, version=__version__)
        await server.serve(sockets=[bound])
    finally:
        await asyncio.to_thread(agent.stop)
        bound.close()
        log.info("strongroom agent stopped", servers="left running", jobs="left running")


def _load(home: Path) -> Membership | None:
    path = home / "member.json"
    try:
        return read_model(path, Membership)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}", remedy="Remove it, and join again.") from None


def _join(bound: socket.socket, control_plane: str, token: Token, pair: KeyPair) -> Membership:
    address, port = bound.getsockname()[:2]
    shown = f"[{address}]" if ":" in address else address
    try:
        control = join(control_plane, token, f"https://{shown}:{port}", pair.certificate)
    except BaseException:
        bound.close()
        raise
    return Membership(name=token.name, address=address, port=port, control=control, token=_hash(token))


def _hash(token: Token) -> str:
    return hashlib.sha256(str(token).encode()).hexdigest()


def _source(control_plane: str) -> str:
    """The address of this host towards the control plane, which reaches it there unless addresses are translated in between."""
    try:
        url = urlsplit(control_plane)
        port = url.port or (443 if url.scheme == "https" else 80)
        (family, kind, protocol, _, target), *_ = socket.getaddrinfo(url.hostname, port, type=socket.SOCK_DGRAM)
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(target)
            return str(probe.getsockname()[0])
    except (ValueError, OSError) as error:
        raise InvalidRequest(f"cannot reach {control_plane}: {error}", remedy="Check --control-plane or agent.address.") from None


def _refuse_another_address(settings: Settings, member: Membership) -> None:
    given = settings.agent.model_fields_set
    port = settings.agent.port if "port" in given and settings.agent.port else member.port
    wanted = settings.agent.address or member.address, port
    if wanted != (member.address, member.port):
        raise ConfigurationError(
            f"the control plane knows this host at {member.address}:{member.port}, not at {wanted[0]}:{wanted[1]}",
            remedy=f"Join again: `strongroom host add {member.name}` gives a new token.",
        )
