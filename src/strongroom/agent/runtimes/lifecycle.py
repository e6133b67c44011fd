"""Start and stop a database server, and wait until it serves or has ended."""

from __future__ import annotations

import time

import structlog

from strongroom.agent.models import ServerDefinition, Start
from strongroom.agent.registry import ServerRecord
from strongroom.agent.runtimes.adopted import AdoptedRuntime
from strongroom.agent.runtimes.home import Home
from strongroom.agent.runtimes.process import ProcessRuntime
from strongroom.agent.runtimes.protocol import Launch, Runtime
from strongroom.datastores import Facts, Progress
from strongroom.errors import ConfigurationError, Conflict, ServerFailed, StillStarting, StrongroomError
from strongroom.system.disks import is_mount_point, list_mounts_below
from strongroom.system.processes import Process, list_processes_in

log = structlog.get_logger()

JOIN = Start()


class Lifecycle:
    """What can be done to a server, whatever its runtime. The caller ensures that one thing is done at a time."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._limits = home.settings.agent
        self._runtimes: dict[str, Runtime] = {"process": ProcessRuntime(home), "adopted": AdoptedRuntime(home)}
        """By name: those of ``datastores.Runtime``."""
        self._ending: dict[str, Process] = {}
        """Processes that were asked to stop, by id of the server: one that has not ended yet may still do so."""

    def get_runtime(self, definition: ServerDefinition) -> Runtime:
        """The runtime of a server that is defined like this."""
        return self._runtimes[definition.runtime]

    def is_running(self, record: ServerRecord) -> bool:
        """Whether a process serves its data directory, healthy or not."""
        return self.find_pid(record) is not None

    def find_pid(self, record: ServerRecord) -> int | None:
        """The process that serves its data directory, healthy or not."""
        process = self.get_runtime(record.definition).find_process(record)
        return process.pid if process is not None else None

    def recover_process(self, record: ServerRecord) -> None:
        """See ``Runtime.recover_process``."""
        self.get_runtime(record.definition).recover_process(record)

    def launch(self, record: ServerRecord, start: Start = JOIN) -> Launch | None:
        """Start the server unless it runs, and do not wait. Raises ServerFailed, ConfigurationError, Conflict."""
        self.recover_process(record)
        if record.process is not None and self._ending.get(record.id) == record.process:
            self._await_end(record)
        if self.is_running(record):
            return Launch(record.process) if record.process is not None else None
        if not record.data_dir.is_dir():
            raise Conflict(f"server {record.label} has no data yet", remedy="Initialize it, or restore a backup into it.")
        return self.get_runtime(record.definition).start(record, start)

    def wait_ready(self, record: ServerRecord, launch: Launch | None) -> Facts:
        """Wait until the server serves, at most ``start_timeout``; one that reports that it recovers may take ``stall_timeout``.

        Raises ServerFailed with what its log says; ConfigurationError if an adopted server refuses the agent's user.
        """
        server, datastore = self._home.describe_server(record), self._home.get_datastore(record)
        began = time.monotonic()
        deadline = began + self._limits.start_timeout
        transfer: Progress | None = None
        last: ServerFailed | ConfigurationError
        while True:
            is_alive = launch is None or launch.process.is_alive()
            try:
                return datastore.servers.read_facts(server)
            except StillStarting as error:  # it replays its log, which takes as long as there is log
                last = error
                deadline = max(deadline, began + self._limits.stall_timeout)
            except ServerFailed as error:
                last = error
            except ConfigurationError as error:
                if record.is_adopted:
                    raise
                last = error  # other servers make the agent's user while they start
            if not is_alive and launch is not None:
                self._require_success(record, launch, last)
            if self._is_receiving(record):  # takes as long as its data is large
                transfer = transfer or Progress(
                    lambda: record.process.list_session() if record.process else list_processes_in(record.data_dir)
                )
                if (idle := transfer.idle()) < self._limits.stall_timeout:
                    deadline = time.monotonic() + self._limits.start_timeout
                else:
                    last = ServerFailed(f"it receives data from another node, without progress for {idle:.0f} s: {last.message}")
                    deadline = 0
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"server {record.label} does not serve after {time.monotonic() - began:.0f} s: {last.message}",
                    remedy=last.remedy or "Raise start_timeout in [agent] if it is still recovering.",
                )
            time.sleep(_pause(began))

    def _require_success(self, record: ServerRecord, launch: Launch, last: StrongroomError) -> None:
        """Raise ServerFailed if a server that has ended should be running, or if the command that starts it failed."""
        status = launch.process.exit_status()
        if not launch.is_command:
            what = f"server {record.label} ended right after its start"
        elif status:
            what = f"the start command of {record.label} failed"
        else:
            return
        output = self._home.read_output(record)
        why = f"{last.message}; {output}" if output else last.message
        raise ServerFailed(f"{what}{_describe_status(status)}: {why}", remedy=last.remedy)

    def _is_receiving(self, record: ServerRecord) -> bool:
        clusters = self._home.get_datastore(record).clusters
        return clusters is not None and clusters.nodes.is_receiving(self._home.describe_server(record))

    def stop(self, record: ServerRecord) -> None:
        """Stop it and wait until its process has ended. Raises ServerFailed: a server with open files is never killed here."""
        if not self.is_running(record):
            return
        command = self.get_runtime(record.definition).stop(record)
        if record.process is not None:
            self._ending[record.id] = record.process
        self._await_end(record, command)
        log.info("server stopped", server=record.id)

    def _await_end(self, record: ServerRecord, command: Process | None = None) -> None:
        """Wait until a server that is being stopped has ended. Raises ServerFailed."""
        began = time.monotonic()
        deadline = began + self._limits.stop_timeout
        while self.is_running(record):
            if command is not None and not command.is_alive() and (status := command.exit_status()):
                raise ServerFailed(
                    f"the stop command of {record.label} failed{_describe_status(status)}; {self._home.read_output(record)}",
                    remedy="Run it by hand, and correct it or the server.",
                )
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"server {record.label} does not stop within {self._limits.stop_timeout:.0f} s",
                    remedy="Look at its error log; long transactions and dirty pages take time. Raise stop_timeout in [agent].",
                )
            time.sleep(_pause(began))

    def kill(self, record: ServerRecord) -> None:
        """Kill it: its data is thrown away. Raises ServerFailed if that is not possible."""
        self.get_runtime(record.definition).kill(record)

    def stop_or_kill(self, record: ServerRecord) -> None:
        """Stop a server whose data is not needed any more; kill it if it does not stop and may be killed. Raises ServerFailed."""
        try:
            self.stop(record)
        except ServerFailed as error:
            if not self.get_runtime(record.definition).can_kill:
                raise
            log.warning("killing a server that does not stop", server=record.id, reason=error.message)
            self.kill(record)

    def require_movable(self, record: ServerRecord) -> None:
        """Raise ConfigurationError if the data directory cannot be renamed and replaced."""
        if is_mount_point(record.data_dir):
            raise ConfigurationError(
                f"the data directory {record.data_dir} is a mount point and cannot be renamed",
                remedy="Move the data into a directory below the mount point, or restore to a new instance.",
            )
        if mounted := list_mounts_below(record.data_dir):
            raise ConfigurationError(
                f"{', '.join(mounted)} in the data directory of {record.label} is a mount point: what is mounted there would "
                "move away with the previous data, and come back over the new data at the next boot",
                remedy="Mount it elsewhere, and make a setting or a link lead there; or restore to a new instance.",
            )
        self.get_runtime(record.definition).require_movable(record)


def _pause(began: float) -> float:
    """Seconds until the next check: an event is noticed at most a twentieth of its duration late."""
    return min(max(0.01, (time.monotonic() - began) / 20), 0.5)


def _describe_status(status: int | None) -> str:
    if status is None:
        return ""
    return f" (killed by signal {-status})" if status < 0 else f" (exit status {status})"
