"""Requests for hosts: add, join and remove them, reclaim and stop their unknown servers; and the connections to them."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom import __version__
from strongroom.agent.joining import JoinReply, JoinRequest, Token, proof_of_control, proof_of_host, same
from strongroom.agent.models import ServerView
from strongroom.agent.remote import RemoteAgent
from strongroom.agent.tls import KeyPair, checked, key_pair
from strongroom.catalog import Cluster, Host, Instance, Job, now
from strongroom.catalog.queries import silent_hosts
from strongroom.errors import Busy, Cancelled, Conflict, Forbidden, InvalidRequest, NotFound
from strongroom.flows import outcomes
from strongroom.flows.hosts.checks import LOST_KEYS_REMEDY
from strongroom.flows.hosts.placement import GB
from strongroom.flows.records import refuse_if_protected
from strongroom.flows.site import Site
from strongroom.flows.status import move_instance
from strongroom.sections import HOST_PATTERN

log = structlog.get_logger()

USED = "used:"
"""Prefix of the key of a used token. Only the same host may use it again, in case the first response was lost."""


def request_host(site: Site, name: str) -> tuple[Token, datetime]:
    """A one-time token with which a host can join, and its expiry. A known host may join again with new keys.

    Raises InvalidRequest, Conflict.
    """
    if not re.fullmatch(HOST_PATTERN, name):
        raise InvalidRequest(
            f"{name[:64]!r} is not a valid name of a host",
            remedy="Use 1 to 63 lower-case letters, digits, _ and -; begin with a letter or digit.",
        )
    if site.agents.embedded(name):
        raise Conflict(
            f"host {name} is the host of the service, whose agent is part of the service", remedy="Choose another name."
        )
    token = Token.new(name)
    until = now() + timedelta(seconds=site.settings.hosts.token_life)
    with site.catalog.write() as session:
        row = session.get(Host, name) or Host(name=name)
        row.token_key, row.token_until = token.key, until
        session.add(row)
    site.agents.urls.setdefault(name, "")
    return token, until


def join_host(site: Site, request: JoinRequest) -> JoinReply:
    """Let a host join with its token. A repeated request with the same certificate gets the same reply. Raises Forbidden."""
    certificate = checked(request.certificate)
    url = urlsplit(request.url)
    if url.scheme != "https" or not url.hostname or url.path or url.query:
        raise InvalidRequest(f"{request.url!r} is not a valid URL of an agent", remedy="Use a URL such as https://10.0.0.1:8780.")
    pair = own_keys(site)
    with site.catalog.write() as session:
        row = session.get(Host, request.name)
        key, is_used = _key_of(row)
        wanted = proof_of_host(key, request.name, request.url, request.certificate)
        is_again = row is not None and (row.url, row.certificate) == (request.url, certificate)
        if row is None or not key or not same(request.proof, wanted) or (is_used and not is_again):
            raise Forbidden(
                f"host {request.name} may not join: its token is unknown, used or expired",
                remedy=f"Get a new token: `strongroom host add {request.name}`.",
            )
        _require_suitable(session, request, certificate)
        reply = JoinReply(certificate=pair.certificate, proof=proof_of_control(key, request.certificate, pair.certificate))
        row.url, row.certificate = request.url, certificate
        row.token_key = USED + key
    _connect(site, pair, request.name, request.url, certificate)
    return reply


def _require_suitable(session: Session, request: JoinRequest, certificate: str) -> None:
    """Raise Conflict for an agent that has already joined with another name, or has another version."""
    other = session.scalar(select(Host.name).where(Host.name != request.name, Host.certificate == certificate))
    if other is not None:
        raise Conflict(
            f"this agent has already joined as host {other}; it cannot also be host {request.name}",
            remedy=f"To rename it, remove host {other} first. For a second agent, use another data directory.",
        )
    if request.version != __version__:
        raise Conflict(
            f"the agent has version {request.version or 'unknown'}, the service has version {__version__}",
            remedy="Install the same version of Strongroom on both.",
        )


def _find_unknown(site: Site, host: str, server: str) -> ServerView:
    unknown = site.agents.unknown.get(host, [])
    found = [view for view in unknown if view.id == server] or [view for view in unknown if view.name == server]
    see = f"See `strongroom host servers {host}`."
    if not found:
        raise NotFound(f"host {host} has no unknown server {server}", remedy=see)
    if len(found) > 1:
        raise Conflict(f"{len(found)} servers of host {host} are named {server}", remedy=f"Use the id. {see}")
    return found[0]


def request_reclaim(site: Site, project: str, host: str, server: str) -> Instance:
    """Make an unknown server an instance again: its previous instance, or a new one of ``project``.

    Raises NotFound, Conflict.
    """
    view = _find_unknown(site, host, server)
    if view.member is not None:
        raise Conflict(
            f"server {view.name or view.id} is a node of cluster {view.member.cluster}; it cannot be an instance of its own",
            remedy="Stop it, or adopt the cluster.",
        )
    with site.catalog.write() as session:
        row = session.get(Instance, view.id)
        if row is not None and row.deleted is None:
            raise Conflict(
                f"instance {row.name} ({row.id}) is already on host {row.host}", remedy="Stop the server on one of the hosts."
            )
        if row is None:
            row = Instance(
                id=view.id,
                project=project,
                name=view.name or view.id,
                runtime=view.runtime,
                datastore=view.datastore,
                flavor=site.settings.default_flavor,
                volume_size=max(1, math.ceil(view.data_bytes / GB)),
            )
            session.add(row)
        row.host, row.deleted = host, None
        move_instance(row, None)
        outcomes.mirror(row, view.model_dump(mode="json"))
    site.agents.unknown[host] = [other for other in site.agents.unknown[host] if other.id != view.id]
    return row


async def stop_unknown_server(site: Site, host: str, server: str) -> ServerView:
    """Stop an unknown server; its data is kept. Raises NotFound, ServerFailed."""
    view = _find_unknown(site, host, server)
    return await site.agents.client(host).stop_server(view.id)


def _key_of(row: Host | None) -> tuple[str, bool]:
    """The key of the host's token, which is empty if there is none or it has expired; and whether it was used."""
    if row is None or row.token_key is None or row.token_until is None or row.token_until <= now():
        return "", False
    return row.token_key.removeprefix(USED), row.token_key.startswith(USED)


def connect_hosts(site: Site) -> None:
    """Connect to the agents of all joined hosts. Reports when the keys by which they know this service are lost."""
    with site.catalog.read() as session:
        known = list(session.scalars(select(Host)))
    site.agents.urls.update({row.name: row.url or "" for row in known})
    if rows := [row for row in known if row.url is not None]:
        if not (path := _key_directory(site) / "key.pem").exists():
            names = ", ".join(row.name for row in rows)
            site.agents.lost_keys = (
                f"the keys of this control plane in {path} were lost, so the hosts that joined with them refuse it ({names})"
            )
            log.error(site.agents.lost_keys, remedy=LOST_KEYS_REMEDY)
        pair = own_keys(site)
        for row in rows:
            assert row.url is not None and row.certificate is not None
            _connect(site, pair, row.name, row.url, row.certificate)


def request_remove_host(site: Site, name: str, *, force: bool = False) -> None:
    """Remove the host: the service stops contacting its agent.

    A host with instances is only removed with ``force`` and if it is unreachable. That removes its instances, too; their backups
    are kept. Raises NotFound, Conflict, Protected, Busy.
    """
    if site.agents.embedded(name):
        raise Conflict(
            f"host {name} is the host of the service", remedy="Disable its agent in the configuration: agent.embedded = false."
        )
    with site.catalog.write() as session:
        row = session.get(Host, name)
        if row is None:
            raise NotFound(f"host {name} cannot be found", remedy="See `strongroom host list`.")
        living = list(session.scalars(select(Instance).where(Instance.host == name, Instance.deleted.is_(None))))
        if living and not force:
            raise Conflict(
                f"host {name} has instances: {', '.join(i.name for i in living)}",
                remedy="Delete them first. If the host will never return, use --force: it removes them, but keeps their backups.",
            )
        if living and name not in silent_hosts(session):
            raise Busy(f"host {name} is reachable and has instances", remedy="Delete the instances first.")
        clusters = {instance.cluster_id for instance in living if instance.cluster_id}
        refuse_if_protected([*living, *session.scalars(select(Cluster).where(Cluster.id.in_(clusters)))])
        for job in session.scalars(select(Job).where(Job.host == name, Job.finished.is_(None))):
            outcomes.settle(session, job, Cancelled(f"{job.kind} job {job.id} was cancelled: host {name} was removed").to_dict())
        for instance in living:
            instance.deleted = instance.updated = now()
        session.delete(row)
    site.agents.disconnect(name)


def own_keys(site: Site) -> KeyPair:
    """The key pair of this control plane."""
    return key_pair(_key_directory(site), "strongroom control plane")


def _key_directory(site: Site) -> Path:
    return site.settings.service.data_dir / "control-plane"


def _connect(site: Site, pair: KeyPair, name: str, url: str, certificate: str) -> None:
    site.agents.connect(name, RemoteAgent(name, url, pair.client(certificate), partial(site.agents.presence.require, name)), url)
