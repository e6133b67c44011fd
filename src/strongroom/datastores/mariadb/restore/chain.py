"""Restore of a chain by mariadb-backup."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from strongroom.datastores.innodb.chain import ChainRestore
from strongroom.datastores.innodb.checkpoints import PREPARED
from strongroom.datastores.innodb.prepare import FILE
from strongroom.datastores.innodb.versions import make_sort_key
from strongroom.datastores.mariadb.restore.prepare import rewrite_options
from strongroom.datastores.mariadb.server.versions import require_tool
from strongroom.datastores.protocol.restores import ChainLink, Phase, Restored
from strongroom.datastores.protocol.servers import Server, Version


class _Restore(ChainRestore):
    def _command(self, number: int) -> list[str]:
        return [str(self._version.programs["backup"]), f"--defaults-file={self._target / FILE}", "--prepare"]

    def _state_after(self, number: int) -> str:
        return PREPARED

    def _require_tool(self, server_version: str) -> None:
        _require_tool(self._version, server_version)

    def _rewrite_options(self, directory: Path, number: int) -> dict[str, str]:
        return rewrite_options(self._version, directory, self._chain[number].profile, self._server)


def restore(
    version: Version,
    chain: Sequence[ChainLink],
    target: Path,
    work_dir: Path,
    phase: Phase,
    server: Server | None = None,
    *,
    log_follows: bool = False,
) -> Restored:
    """See ``Restores.restore``. An apply that died cannot be repeated, so until the end ``target`` is marked as unusable."""
    _require_tool(version, max((link.server_version for link in chain), key=make_sort_key))
    return _Restore(version, chain, target, work_dir, phase, server).restore()


def _require_tool(version: Version, server_version: str) -> None:
    require_tool(version.programs["backup"], server_version, "the server of the backup")
