"""Servers that the agent makes and runs itself, each a session of its own that outlives the agent and is found again."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import structlog

from strongroom import datastores
from strongroom.agent.host.addresses import is_free
from strongroom.agent.host.users import choose_server_user
from strongroom.agent.host.versions import find_version
from strongroom.agent.models import ServerDefinition, Start
from strongroom.agent.registry import ServerRecord
from strongroom.agent.runtimes.home import Home
from strongroom.agent.runtimes.protocol import Launch
from strongroom.errors import ConfigurationError, Conflict, NoConnections, NotInCluster, ServerFailed
from strongroom.system.children import start_session
from strongroom.system.directories import make_directory
from strongroom.system.processes import Process, find_session
from strongroom.system.users import find_user

log = structlog.get_logger()


class ProcessRuntime:
    """Servers as processes of the agent's host."""

    can_kill = True

    def __init__(self, home: Home) -> None:
        self._home = home

    def define(self, server_id: str, definition: ServerDefinition, known: ServerRecord | None) -> ServerRecord:
        version = find_version(self._home.settings, definition.datastore, definition.series)
        if known is None:
            return self._add(server_id, definition.model_copy(update={"series": version.series}))
        if version.series != known.definition.series:
            raise Conflict(
                f"server {known.label} is {definition.datastore} {known.definition.series}; it cannot become {version.series}",
                remedy="Restore a backup to a new instance of that version.",
            )
        changed = known.definition.model_copy(update={"name": definition.name, "ram_mb": definition.ram_mb})
        if changed != known.definition:
            known.definition = changed
            self._home.registry.save(known)
        return known

    def _add(self, server_id: str, definition: ServerDefinition) -> ServerRecord:
        home, datastore = self._home, datastores.get(definition.datastore)
        user = choose_server_user(home.settings, datastore)
        base_dir = home.base_dir(server_id)
        for directory in (base_dir, *(base_dir / name for name in ("run", "log", "tmp"))):
            make_directory(directory, user.owner)
        with home.registry.mutex:
            record = ServerRecord(
                id=server_id,
                definition=definition,
                user=user.name,
                data_dir=base_dir / "data",
                address=home.addresses.allocate(datastore.default_port, home.list_addresses()),
                port=datastore.default_port,
                socket=datastores.socket_path(base_dir, datastore.socket_name),
            )
            home.registry.save(record)
        datastore.servers.configure(home.describe_server(record))
        return record

    def find_process(self, record: ServerRecord) -> Process | None:
        return record.process if record.process is not None and record.process.is_alive() else None

    def recover_process(self, record: ServerRecord) -> None:
        if self.find_process(record) is None:
            server = self._home.describe_server(record)
            found = find_session(self._home.get_datastore(record).servers.build_command(server), find_user(record.user).uid)
            if found is not None:
                record.process = found
                self._home.registry.save(record)

    def start(self, record: ServerRecord, start: Start) -> Launch:
        record.require_epoch()
        self._settle_address(record)
        server, datastore = self._home.describe_server(record), self._home.get_datastore(record)
        datastore.servers.check_data(server, record.data_dir)
        datastore.servers.configure(server)
        once: list[str] = []
        if record.member is not None:
            nodes = self._home.get_clusters(record).nodes
            once = nodes.start_options(server, bootstrap=start.mode == "bootstrap", expected=start.position)
        transfer = server.version.programs.get("transfer")
        output = self._home.open_output(record)
        try:
            process = start_session(
                [*datastore.servers.build_command(server), *once],
                user=find_user(record.user),
                become=True,
                log=output,
                cwd=server.base_dir,
                path=str(transfer.parent) if transfer else "",
            )
        except OSError as error:
            raise ServerFailed(
                f"server {record.label} cannot be started: {error}", remedy="Check the programs of this version."
            ) from error
        finally:
            os.close(output)
        record.process = process
        record.was_started = True
        self._home.registry.save(record)
        log.info("server started", server=record.id, pid=process.pid)
        return Launch(process)

    def _settle_address(self, record: ServerRecord) -> None:
        address, port, addresses = record.address, record.port, self._home.addresses
        if address is None or port is None or (is_free(address, port) and addresses.hold(address, port)):
            return
        if record.was_started:
            raise ServerFailed(
                f"another program listens on {address}:{port}, the address of server {record.label}",
                remedy="Find it with `ss -ltnp` and stop it.",
            )
        # Never used yet: another agent on this machine was faster.
        with self._home.registry.mutex:
            record.address = addresses.allocate(port, self._home.list_addresses())
            self._home.registry.save(record)

    def stop(self, record: ServerRecord) -> Process | None:
        if record.member is not None and not _is_listening(record.socket):
            self.kill(record)  # a node that waits for the others or receives all data ignores signals, and has nothing open yet
        elif record.process is not None:
            self._await_start(record, record.process)
            record.process.terminate(self._home.get_datastore(record).stop_signal)
        return None

    def _await_start(self, record: ServerRecord, process: Process) -> None:
        """Wait until it serves, or had the time for it: MariaDB hangs forever if it gets SIGTERM while it starts."""
        server, datastore = self._home.describe_server(record), self._home.get_datastore(record)
        while process.is_alive() and process.measure_age() < self._home.settings.agent.start_timeout:
            try:
                datastore.servers.read_facts(server)
            except (NotInCluster, NoConnections, ConfigurationError):
                return
            except ServerFailed:
                time.sleep(0.1)
            else:
                return

    def kill(self, record: ServerRecord) -> None:
        if record.process is not None and not record.process.kill_session():
            raise ServerFailed(f"server {record.label} cannot be killed", remedy="It hangs in the kernel: check its disks.")

    def require_movable(self, record: ServerRecord) -> None:
        """Its directories are the agent's."""


def _is_listening(path: Path | None) -> bool:
    """Whether the server has opened its socket, the last step of its start; one that hangs still listens."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True
    return True
