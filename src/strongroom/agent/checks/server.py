"""Checks of database servers: what stops or limits their backups and restores."""

from __future__ import annotations

from collections.abc import Iterator

from strongroom import datastores
from strongroom.agent.checks.check import Check, Level
from strongroom.agent.host.addresses import Addresses
from strongroom.agent.registry import Registry
from strongroom.agent.runtimes import Home
from strongroom.artifact import Effect
from strongroom.datastores import Server
from strongroom.errors import StrongroomError
from strongroom.settings import Settings

NOTICES: dict[Effect, tuple[Level, str]] = {
    "refuse": ("error", "it cannot be backed up: "),
    "refuse_in_place": ("warning", "it cannot be restored in place: "),
    "refuse_new": ("warning", "it cannot be restored to a new instance: "),
    "warn": ("warning", ""),
}
"""Level and beginning of the message for each effect of a profile's notice."""


def check_adopted(settings: Settings) -> Iterator[Check]:
    """What adopted servers lack for backups."""
    records = settings.service.data_dir / "agent" / "servers"
    if not records.is_dir():
        return
    home = Home(settings, Registry(records), settings.service.data_dir / "instances", Addresses(settings.agent.pool))
    home.registry.load()
    for record in home.registry.all():
        if record.is_adopted:
            yield from check_server(home.describe_server(record))


def check_server(server: Server) -> Iterator[Check]:
    """What stops or limits backups and restores of a server: what it lacks, and what its profile says. Never raises."""
    name, seen = f"server {server.name or server.id}", set()
    datastore = datastores.get(server.datastore)
    if server.is_adopted and not (server.start_command and server.stop_command):
        yield Check(
            name=name,
            level="warning",
            message="there is no command to start or to stop it: it cannot be restored in place",
            remedy="Adopt it again with --start-command and --stop-command.",
        )
    try:
        for finding in datastore.servers.examine(server) if server.is_adopted else ():
            seen.add(finding.message)
            yield Check(name=name, **finding.model_dump())
        profile = datastore.profiles.read(server)
    except StrongroomError as error:
        if error.message not in seen:
            yield Check(name=name, level="error", message=error.message, remedy=error.remedy)
        return
    for notice in profile.notices:
        level, prefix = NOTICES[notice.effect]
        if notice.message not in seen:
            seen.add(notice.message)
            yield Check(name=name, level=level, message=f"{prefix}{notice.message}", remedy=notice.remedy)
    for sentence in profile.absent:
        yield Check(name=name, level="warning", message=f"not in its backups: {sentence}")
