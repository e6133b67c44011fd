"""Start and stop one database server. Servers live in sessions of their own, outlive the agent and are found again."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import structlog

from strongroom import datastores
from strongroom.agent.host.addresses import Addresses, is_free
from strongroom.agent.host.versions import find_version
from strongroom.agent.models import Start
from strongroom.agent.registry import Registry, ServerRecord
from strongroom.datastores import Datastore, Facts, Galera, Progress, Server, tail
from strongroom.errors import (
    ConfigurationError,
    Conflict,
    NoConnections,
    NotInCluster,
    ServerFailed,
    StillStarting,
    StrongroomError,
    Unsupported,
)
from strongroom.settings import Settings
from strongroom.system.children import start_session
from strongroom.system.disks import is_mount_point, list_mounts_below
from strongroom.system.processes import Process, find_session, identify_process, list_processes_in
from strongroom.system.users import current_user, find_user

log = structlog.get_logger()

JOIN = Start()


class Lifecycle:
    """What can be done to a server; the caller sees to it that one thing is done at a time."""

    def __init__(self, settings: Settings, registry: Registry, instances: Path) -> None:
        self._settings = settings
        self._registry = registry
        self._instances = instances
        self.addresses = Addresses(settings.agent.pool)
        self._adopted: dict[str, Process] = {}  # found once by looking at all processes of the host
        self._ending: dict[str, Process] = {}  # told to stop: what hung then may still come to it

    def datastore(self, record: ServerRecord) -> Datastore:
        """The driver of the server's datastore."""
        return datastores.get(record.definition.datastore)

    def base_dir(self, server_id: str) -> Path:
        """The instance's own directory."""
        return self._instances / server_id

    def server(self, record: ServerRecord) -> Server:
        """The server as drivers and workers see it. Raises ConfigurationError when its version is not installed any more."""
        definition = record.definition
        return Server(
            id=record.id,
            name=definition.name,
            datastore=definition.datastore,
            runtime=definition.runtime,
            user=record.user,
            base_dir=self.base_dir(record.id),
            data_dir=record.data_dir,
            socket=record.socket,
            address=record.address,
            port=record.port,
            ram_mb=definition.ram_mb,
            wal_limit_mb=self._settings.agent.wal_limit,
            version=find_version(self._settings, definition.datastore, definition.series),
            defaults_file=definition.defaults_file,
            credentials_file=definition.credentials_file,
            start_command=definition.start_command,
            stop_command=definition.stop_command,
            galera=record.member,
        )

    def is_running(self, record: ServerRecord) -> bool:
        """A process serves this data directory, well or not."""
        return self.pid(record) is not None

    def pid(self, record: ServerRecord) -> int | None:
        """A process that serves this data directory, well or not."""
        if record.definition.runtime == "process":
            return record.process.pid if record.process is not None and record.process.is_alive() else None
        known = self._adopted.get(record.id)
        if known is not None and known.is_working_in(record.data_dir):
            return known.pid
        found = next(
            (process for pid in list_processes_in(record.data_dir) if (process := identify_process(pid)) is not None), None
        )
        if found is None:
            self._adopted.pop(record.id, None)
            return None
        self._adopted[record.id] = found
        return found.pid

    def find(self, record: ServerRecord) -> None:
        """Find a process that was started, but died out of our books before its pid was written down."""
        if record.definition.runtime == "process" and not self.is_running(record):
            server = self.server(record)
            found = find_session(self.datastore(record).start_argv(server), find_user(record.user).uid)
            if found is not None:
                record.process = found
                self._registry.save(record)

    def launch(self, record: ServerRecord, start: Start = JOIN) -> Process | None:
        """Start the server unless it runs, and do not wait. Raises ServerFailed, ConfigurationError, Conflict.

        For an adopted server the process of its start command is returned.
        """
        self.find(record)
        if record.process is not None and self._ending.get(record.id) == record.process:
            self._await_end(record)
        if self.is_running(record):
            return record.process
        if not record.data_dir.is_dir():
            raise Conflict(f"server {_name(record)} has no data yet", remedy="Initialize it, or restore a backup into it.")
        if record.definition.runtime == "adopted":
            if start.mode == "bootstrap":
                galera_of(self.datastore(record)).start_options(self.server(record), bootstrap=True, expected=start.position)
                return self._command(record, record.definition.bootstrap_command, "bootstrap")
            return self._command(record, record.definition.start_command, "start")
        require_epoch(record)
        self._settle_address(record)
        server, datastore = self.server(record), self.datastore(record)
        datastore.check_data(server, record.data_dir)
        datastore.configure(server)
        once: list[str] = []
        if record.member is not None:
            once = galera_of(datastore).start_options(server, bootstrap=start.mode == "bootstrap", expected=start.position)
        transfer = server.version.programs.get("transfer")
        output = self._output(record)
        try:
            process = start_session(
                [*datastore.start_argv(server), *once],
                user=find_user(record.user),
                become=True,
                log=output,
                cwd=server.base_dir,
                path=str(transfer.parent) if transfer else "",
            )
        except OSError as error:
            raise ServerFailed(f"server {_name(record)} cannot be started: {error}") from error
        finally:
            os.close(output)
        record.process = process
        record.was_started = True
        self._registry.save(record)
        log.info("server started", server=record.id, pid=process.pid)
        return process

    def wait_ready(self, record: ServerRecord, launched: Process | None) -> Facts:
        """Wait until the server serves, at most ``start_timeout``.

        Raises ServerFailed, with what its log says; ConfigurationError when an adopted server refuses our account.

        A server that says that it recovers may take ``stall_timeout``.
        """
        server, datastore = self.server(record), self.datastore(record)
        began = time.monotonic()
        deadline = began + self._settings.agent.start_timeout
        transfer: Progress | None = None
        last: ServerFailed | ConfigurationError
        while True:
            alive = launched is None or launched.is_alive()
            try:
                return datastore.ready(server)
            except StillStarting as error:  # replaying its log takes as long as there is log
                last = error
                deadline = max(deadline, began + self._settings.agent.stall_timeout)
            except ServerFailed as error:
                last = error
            except ConfigurationError as error:
                if record.definition.runtime == "adopted":
                    raise
                last = error  # ours makes our account while it starts
            if not alive and launched is not None:
                status = launched.exit_status()
                if record.definition.runtime == "process":
                    raise ServerFailed(
                        f"server {_name(record)} ended right after its start{_how(status)}: {self._why(record, last)}",
                        remedy=last.remedy,
                    )
                if status:
                    raise ServerFailed(
                        f"the start command of {_name(record)} failed{_how(status)}: {self._why(record, last)}",
                        remedy=last.remedy,
                    )
            if self._receiving(record):  # takes as long as its data is large
                transfer = transfer or Progress(
                    lambda: record.process.list_session() if record.process else list_processes_in(record.data_dir)
                )
                if (idle := transfer.idle()) < self._settings.agent.stall_timeout:
                    deadline = time.monotonic() + self._settings.agent.start_timeout
                else:
                    last = ServerFailed(f"it receives data from another node, without progress for {idle:.0f} s: {last.message}")
                    deadline = 0
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"server {_name(record)} does not serve after {time.monotonic() - began:.0f} s: {last.message}",
                    remedy=last.remedy or "Raise start_timeout in [agent] if it is still recovering.",
                )
            time.sleep(_pause(began))

    def stop(self, record: ServerRecord) -> None:
        """The datastore's signal (adopted: its stop command), and wait. A database is never killed here. Raises ServerFailed."""
        if not self.is_running(record):
            return
        if record.definition.runtime == "process" and record.member is not None and not _listens(record.socket):
            self.kill(record)  # one that waits for the others, or is sent all data, hears no signal; and nothing is open yet
            return
        command: Process | None = None
        if record.definition.runtime == "adopted":
            command = self._command(record, record.definition.stop_command, "stop")
        elif record.process is not None:
            self._let_start(record, record.process)
            self._ending[record.id] = record.process
            record.process.terminate(self.datastore(record).stop_signal)
        self._await_end(record, command)
        log.info("server stopped", server=record.id)

    def _await_end(self, record: ServerRecord, command: Process | None = None) -> None:
        """Until a server that was told to stop is gone. Raises ServerFailed."""
        began = time.monotonic()
        deadline = began + self._settings.agent.stop_timeout
        while self.is_running(record):
            if command is not None and not command.is_alive() and (status := command.exit_status()):
                raise ServerFailed(f"the stop command of {_name(record)} failed{_how(status)}; {self._said(record)}")
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"server {_name(record)} does not stop within {self._settings.agent.stop_timeout:.0f} s",
                    remedy="Look at its error log; long transactions and dirty pages take time. Raise stop_timeout in [agent].",
                )
            time.sleep(_pause(began))

    def _let_start(self, record: ServerRecord, process: Process) -> None:
        """MariaDB hangs for ever when SIGTERM meets it on its way up, so wait until it serves, or had the time for it."""
        server, datastore = self.server(record), self.datastore(record)
        while process.is_alive() and process.measure_age() < self._settings.agent.start_timeout:
            try:
                datastore.ready(server)
            except (NotInCluster, NoConnections, ConfigurationError):
                return
            except ServerFailed:
                time.sleep(0.1)
            else:
                return

    def _receiving(self, record: ServerRecord) -> bool:
        galera = self.datastore(record).galera
        return galera is not None and galera.receiving(self.server(record))

    def kill(self, record: ServerRecord) -> None:
        """SIGKILL, for data that is thrown away. Raises ServerFailed when even that does not help."""
        if record.process is not None and not record.process.kill_session():
            raise ServerFailed(f"server {_name(record)} cannot be killed", remedy="It hangs in the kernel: look at its disks.")

    def require_movable(self, record: ServerRecord) -> None:
        """Raise ConfigurationError when the data directory cannot be put aside and replaced."""
        if is_mount_point(record.data_dir):
            raise ConfigurationError(
                f"the data directory {record.data_dir} is a mount point and cannot be renamed",
                remedy="Move the data into a directory below the mount point, or restore to a new instance.",
            )
        if mounted := list_mounts_below(record.data_dir):
            raise ConfigurationError(
                f"{', '.join(mounted)} in the data directory of {_name(record)} is a mount point: what is mounted there would go "
                "aside with the old data, and come back over the new at the next boot",
                remedy="Mount it elsewhere, and have a setting or a link lead there; or restore to a new instance.",
            )
        if record.definition.runtime == "adopted":
            for verb in ("start", "stop"):
                if not getattr(record.definition, f"{verb}_command"):
                    raise ConfigurationError(
                        f"adopted server {_name(record)} has no {verb} command, so that it cannot be restored in place",
                        remedy="Adopt it with a start and a stop command, or restore to a new instance.",
                    )
            if not os.access(record.data_dir.parent, os.W_OK):
                raise ConfigurationError(
                    f"the agent may not rename the data directory {record.data_dir}", remedy="Run the agent as root."
                )

    def _settle_address(self, record: ServerRecord) -> None:
        address, port = record.address, record.port
        if address is None or port is None or (is_free(address, port) and self.addresses.hold(address, port)):
            return
        if record.was_started:
            raise ServerFailed(
                f"something else listens on {address}:{port}, the address of server {_name(record)}",
                remedy="Find it with `ss -ltnp` and stop it.",
            )
        # Never used yet: another agent on this machine was faster.
        with self._registry.mutex:
            record.address = self.addresses.allocate(port, self.taken())
            self._registry.save(record)

    def taken(self) -> set[str]:
        """Addresses that servers of this agent have."""
        return {record.address for record in self._registry.all() if record.address is not None}

    def _command(self, record: ServerRecord, argv: list[str], verb: str) -> Process:
        if not argv:
            raise ConfigurationError(
                f"adopted server {_name(record)} has no {verb} command", remedy=f"Adopt it with one, or {verb} it by hand."
            )
        output = self._output(record)
        try:
            process = start_session(argv, user=current_user(), become=False, log=output, cwd=Path("/"))
        except OSError as error:
            raise ConfigurationError(f"the {verb} command of {_name(record)} cannot be run: {error}") from error
        finally:
            os.close(output)
        return process

    def _output(self, record: ServerRecord) -> int:
        """What the process says, of this start only: the server has a log of its own."""
        path = self._registry.place(record.id) / "output.log"
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _why(self, record: ServerRecord, last: StrongroomError) -> str:
        """Why a server does not start: what its error log says, else what it said on its way there."""
        said = self._said(record)
        return f"{last.message}; {said}" if said else last.message

    def _said(self, record: ServerRecord) -> str:
        """What this start wrote to its output."""
        text = "\n".join(tail(self._registry.place(record.id) / "output.log", size=1000))
        return f"it wrote:\n{text}" if text else ""


def _pause(began: float) -> float:
    """Seconds until the next look: what is waited for is noticed late by a twentieth of what it took."""
    return min(max(0.01, (time.monotonic() - began) / 20), 0.5)


def galera_of(datastore: Datastore) -> Galera:
    """Raises Unsupported."""
    if datastore.galera is None:
        raise Unsupported(f"there are no Galera clusters of {datastore.name}")
    return datastore.galera


def require_epoch(record: ServerRecord) -> None:
    """A node whose cluster was restored without it must not come back with what it has. Raises Conflict."""
    if record.member is not None and record.data_epoch != record.member.epoch:
        raise Conflict(
            f"the data of {_name(record)} is of before the last restore of cluster {record.member.cluster}, "
            "so that it must not be served",
            remedy="`strongroom cluster recover` gives it the data of the others; its own is put aside.",
        )


def _listens(path: Path | None) -> bool:
    """The server has opened its socket, which is the last thing on its way up; one that hangs listens all the same."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True
    return True


def _name(record: ServerRecord) -> str:
    return f"{record.definition.name} ({record.id})" if record.definition.name else record.id


def _how(status: int | None) -> str:
    if status is None:
        return ""
    return f" (killed by signal {-status})" if status < 0 else f" (exit status {status})"
