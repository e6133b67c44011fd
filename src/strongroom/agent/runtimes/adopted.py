"""Servers that their owner set up and starts: the agent finds their process, and runs the commands that the owner named."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from strongroom import datastores
from strongroom.agent.host.users import choose_adopted_user
from strongroom.agent.host.versions import list_versions
from strongroom.agent.models import ServerDefinition, Start
from strongroom.agent.registry import ServerRecord
from strongroom.agent.runtimes.home import Home
from strongroom.agent.runtimes.protocol import Launch
from strongroom.datastores import Facts, Version
from strongroom.errors import ConfigurationError, ServerFailed, VersionMismatch
from strongroom.system.children import start_session
from strongroom.system.directories import make_directory
from strongroom.system.processes import Process, identify_process, list_processes_in
from strongroom.system.users import current_user, find_user


class AdoptedRuntime:
    """Servers of the host that others run."""

    can_kill = False

    def __init__(self, home: Home) -> None:
        self._home = home
        self._found: dict[str, Process] = {}
        """Processes by id of the server: to find one, all processes of the host are read."""

    def define(self, server_id: str, definition: ServerDefinition, known: ServerRecord | None) -> ServerRecord:
        record = self._examine(server_id, definition)
        registry = self._home.registry
        if known is not None:
            told = {name: getattr(record, name) for name in ("definition", "user", "data_dir", "address", "port", "socket")}
            record = known.model_copy(update=told)  # everything else has been learned since
        with registry.mutex:
            registry.require_own_data(record)
            registry.save(record)
        make_directory(self._home.base_dir(server_id), find_user(record.user).owner, take_over=True)
        return record

    def _examine(self, server_id: str, definition: ServerDefinition) -> ServerRecord:
        """Ask a running server what it is. Raises ServerFailed, ConfigurationError, VersionMismatch."""
        if definition.socket is None and definition.address is None:
            raise ConfigurationError(
                f"adopted server {server_id} needs a socket or an address", remedy="Name the one that it listens on."
            )
        candidates = [v for v in list_versions(self._home.settings) if v.datastore == definition.datastore]
        if not candidates:
            raise ConfigurationError(
                f"no programs of {definition.datastore} are installed on this host",
                remedy="Install them: backups need its tools.",
            )
        probe = ServerRecord(
            id=server_id,
            definition=definition.model_copy(update={"series": candidates[0].series}),
            user=definition.user or current_user().name,
            data_dir=definition.data_dir or Path("/"),
            address=definition.address,
            port=definition.port,
            socket=definition.socket,
            wanted="running",
        )
        facts = datastores.get(definition.datastore).servers.read_facts(self._home.describe_server(probe))
        series = _choose_series(definition, facts, candidates)
        data_dir = (definition.data_dir or facts.data_dir or Path("/nonexistent")).resolve()
        if facts.data_dir is not None and facts.data_dir.resolve() != data_dir:
            raise ConfigurationError(
                f"the server has its data in {facts.data_dir}, not in {data_dir}", remedy="Check socket, address and data_dir."
            )
        return probe.model_copy(
            update={
                "definition": definition.model_copy(update={"series": series}),
                "user": choose_adopted_user(data_dir, definition.user).name,
                "data_dir": data_dir,
            }
        )

    def find_process(self, record: ServerRecord) -> Process | None:
        known = self._found.get(record.id)
        if known is not None and known.is_working_in(record.data_dir):
            return known
        found = [process for pid in list_processes_in(record.data_dir) if (process := identify_process(pid)) is not None]
        if not found:
            self._found.pop(record.id, None)
            return None
        self._found[record.id] = found[0]
        return found[0]

    def recover_process(self, record: ServerRecord) -> None:
        """Nothing is recorded of a process that others start."""

    def start(self, record: ServerRecord, start: Start) -> Launch:
        if start.mode == "bootstrap":
            server = self._home.describe_server(record)
            self._home.get_clusters(record).nodes.start_options(server, bootstrap=True, expected=start.position)
            return Launch(self._run_command(record, record.definition.bootstrap_command, "bootstrap"), is_command=True)
        return Launch(self._run_command(record, record.definition.start_command, "start"), is_command=True)

    def stop(self, record: ServerRecord) -> Process | None:
        return self._run_command(record, record.definition.stop_command, "stop")

    def kill(self, record: ServerRecord) -> None:
        raise ServerFailed(f"server {record.label} was adopted and is never killed", remedy="Stop it by hand.")

    def require_movable(self, record: ServerRecord) -> None:
        for verb in ("start", "stop"):
            if not getattr(record.definition, f"{verb}_command"):
                raise ConfigurationError(
                    f"adopted server {record.label} has no {verb} command, so that it cannot be restored in place",
                    remedy="Adopt it with a start and a stop command, or restore to a new instance.",
                )
        if not os.access(record.data_dir.parent, os.W_OK):
            raise ConfigurationError(
                f"the agent may not rename the data directory {record.data_dir}", remedy="Run the agent as root."
            )

    def _run_command(self, record: ServerRecord, argv: Sequence[str], verb: str) -> Process:
        if not argv:
            raise ConfigurationError(
                f"adopted server {record.label} has no {verb} command", remedy=f"Adopt it with one, or {verb} it by hand."
            )
        output = self._home.open_output(record)
        try:
            return start_session(argv, user=current_user(), become=False, log=output, cwd=Path("/"))
        except OSError as error:
            raise ConfigurationError(
                f"the {verb} command of {record.label} cannot be run: {error}", remedy="Adopt the server with another command."
            ) from error
        finally:
            os.close(output)


def _choose_series(definition: ServerDefinition, facts: Facts, candidates: Sequence[Version]) -> str:
    """The installed series of the server's own version. Raises VersionMismatch."""
    product = f"{definition.datastore} {facts.version_number}"
    fitting = [version for version in candidates if facts.version_number.startswith(f"{version.series}.")]
    if not fitting:
        numbers = ", ".join(version.number for version in candidates)
        raise VersionMismatch(
            f"the server is {product}, and this host has the programs of {numbers}",
            remedy="Install the programs of the server's version.",
        )
    if definition.series and not f"{facts.version_number}.".startswith(f"{definition.series}."):
        raise VersionMismatch(f"the server is {product}, not {definition.series}", remedy="Name its version, or none.")
    return fitting[0].series
