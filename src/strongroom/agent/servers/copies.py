"""Compares profiles of backups with this host, and activates restored copies, which are isolated before."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import structlog

from strongroom import datastores
from strongroom.agent.host.versions import find_version
from strongroom.agent.models import Activation, PlanRequest
from strongroom.agent.registry import ServerRecord
from strongroom.agent.runtimes import Home
from strongroom.agent.runtimes.lifecycle import Lifecycle
from strongroom.artifact import Notice
from strongroom.datastores import RestoredProfile, RestoreTarget, read_restored_profile, write_restored_profile
from strongroom.errors import ConfigurationError, StrongroomError, Unsupported

log = structlog.get_logger()


class Copies:
    """``hold`` keeps jobs and other operations off a server."""

    def __init__(
        self,
        home: Home,
        lifecycle: Lifecycle,
        hold: Callable[[ServerRecord], AbstractContextManager[None]],
        require_swappable: Callable[[ServerRecord], None],
    ) -> None:
        self._home = home
        self._lifecycle = lifecycle
        self._hold = hold
        self._require_swappable = require_swappable

    def compare(self, request: PlanRequest) -> list[Notice]:
        """What a restore of a backup with this profile would meet here. Changes nothing. Raises NotFound, ConfigurationError."""
        profiles = datastores.get(request.datastore).profiles
        if request.server is None:
            version = find_version(self._home.settings, request.datastore, request.series)
            return profiles.compare(request.profile, RestoreTarget(version, None, request.in_place, request.tablespaces))
        record = self._home.registry.get(request.server)
        server = self._home.describe_server(record)
        found = profiles.compare(request.profile, RestoreTarget(server.version, server, request.in_place))
        try:
            self._require_swappable(record)
        except (ConfigurationError, Unsupported) as error:
            found.append(
                Notice(item="directories", effect="refuse_in_place", message=error.message.rstrip("."), remedy=error.remedy)
            )
        return found

    def describe(self, server_id: str) -> Activation:
        """What an activation would enable. Raises NotFound, ConfigurationError."""
        record = self._home.registry.get(server_id)
        restored = read_restored_profile(record.data_dir)
        if restored is None or not restored.isolated:
            return Activation(isolated=False)
        items = self._home.get_datastore(record).profiles.items
        disabled = {item.name for item in items if item.new == "disabled"}
        return Activation(isolated=True, enables=[n for n in restored.profile.notices if n.item in disabled])

    def activate(self, server_id: str) -> None:
        """Enable what the isolation of a copy disabled. Idempotent. Raises Busy, NotFound, ServerFailed.

        The server is stopped before the file is written, so that its next start follows the file, whatever dies meanwhile. If it
        does not start, it is isolated again.
        """
        record = self._home.registry.get(server_id)
        with self._hold(record):
            restored = read_restored_profile(record.data_dir)
            if restored is None or not restored.isolated:
                return
            record.wanted, record.failed, record.restarts = "running", None, []
            self._home.registry.save(record)
            self._lifecycle.stop(record)
            self._write(record, restored, isolated=False)
            try:
                self._lifecycle.wait_ready(record, self._lifecycle.launch(record))
            except StrongroomError as error:
                log.warning("activated copy does not serve, isolating it again", server=record.id, reason=error.message)
                self._write(record, restored, isolated=True)  # first, should the stop fail
                self._lifecycle.stop(record)
                self._lifecycle.launch(record)
                raise

    def _write(self, record: ServerRecord, restored: RestoredProfile, *, isolated: bool) -> None:
        write_restored_profile(record.data_dir, restored.model_copy(update={"isolated": isolated}))


class Isolation:
    """Whether a data directory belongs to an isolated copy. Reads a file again only if it has changed."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[int, bool]] = {}

    def __call__(self, data_dir: Path) -> bool:
        path = data_dir / datastores.PROFILE
        try:
            changed = path.lstat().st_mtime_ns
        except OSError:
            self._known.pop(data_dir, None)
            return False
        known = self._known.get(data_dir)
        if known is None or known[0] != changed:
            try:
                restored = read_restored_profile(data_dir)
            except (ConfigurationError, OSError):  # its server does not start, and reports why
                restored = None
            known = self._known[data_dir] = (changed, restored is not None and restored.isolated)
        return known[1]
