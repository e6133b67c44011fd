"""Restore of a chain: unpack into the final directory; a private server recovers it and replays the logs of incrementals."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from strongroom.artifact import Positions, Profile
from strongroom.datastores.innodb.connection import quote_name
from strongroom.datastores.innodb.versions import extract_number, extract_series, make_sort_key
from strongroom.datastores.mysql.backup.fingerprint import REMEDY as FINGERPRINT_REMEDY
from strongroom.datastores.mysql.restore import replay
from strongroom.datastores.mysql.restore.private import PrivateServer
from strongroom.datastores.mysql.restore.unpack import unpack
from strongroom.datastores.mysql.server import keyring
from strongroom.datastores.mysql.server.versions import is_innovation
from strongroom.datastores.protocol.restores import ChainLink, Phase, Restored
from strongroom.datastores.protocol.servers import Version
from strongroom.datastores.toolkit.mark import mark_unfinished
from strongroom.errors import ArtifactCorrupt, ToolFailed, VersionMismatch
from strongroom.system.disks import require_space

_RESERVE = 256 << 20
"""Bytes in addition to the data that recovery may need for its logs."""
_REMEDY = "The chain is broken from there on; restore the backup before it, and take a full."


def restore(
    version: Version, chain: Sequence[ChainLink], target: Path, work_dir: Path, phase: Phase, *, rehearsal: bool
) -> Restored:
    """See ``Restores.restore``. Until the end ``target`` is marked as unusable.

    If rows differ from the fingerprint, a rehearsal fails. A restore only reports it: rows that the owner wrote without the
    binary log are in no incremental, which is no reason to withhold the rest.
    """
    _require_version(version, chain)
    _require_chain(chain)
    require_space(target, sum(link.raw_size for link in chain) + _RESERVE)
    full, incrementals = chain[0], chain[1:]
    warnings: list[str] = []
    with mark_unfinished(target):
        phase("extract")
        with closing(full.chunks()) as chunks:
            facts = unpack(chunks, target)
        if extract_number(facts["version"]) != extract_number(full.server_version):
            raise ArtifactCorrupt(f"the stream is of MySQL {facts['version']} instead of {full.server_version}", remedy=_REMEDY)
        logs = replay.Logs(work_dir)
        for number, link in enumerate(incrementals, 1):
            phase(f"extract incremental {number}")
            logs.add(number, link)
        phase("prepare")
        gtid = full.positions.gtid is not None
        profile = chain[-1].profile or full.profile or Profile()
        settings = profile.settings | {name: str(value) for name, value in facts["settings"].items()}
        private = PrivateServer(version, target, work_dir, settings=settings, plugins=profile.plugins, gtid=gtid)
        with keyring.explain_missing_key(version, facts["master_keys"], private.log), private as server:
            if facts["master_keys"]:
                _open_encrypted(server)
            begins = _arrived(server, full.positions)
            if incrementals:
                phase("replay")
                logs.replay(server, begins)
                _require_reached(server, chain[-1].positions)
                if logs.fingerprint is not None:
                    phase("compare")
                    warnings = logs.fingerprint.differences(server.query)
                    if warnings and rehearsal:
                        raise ArtifactCorrupt("; ".join(warnings), remedy=FINGERPRINT_REMEDY)
            found = _where(server, chain[-1].positions) if incrementals or gtid else begins
        shutil.rmtree(target / "#clone", ignore_errors=True)
        logs.remove()
        phase("sync")
    dropped = "; ".join(f"{name} = {value}" for name, value in dict(facts.get("persisted", {})).items())
    return Restored(positions=found, facts={"dropped_settings": dropped} if dropped else {}, warnings=warnings)


def _require_version(version: Version, chain: Sequence[ChainLink]) -> None:
    for link in chain:
        if extract_series(link.server_version) != version.series or make_sort_key(link.server_version) > make_sort_key(
            version.number
        ):
            raise VersionMismatch(
                f"this host has MySQL {version.number}, and the backup is of {link.server_version}",
                remedy=f"Install MySQL {link.server_version}, or a later one of its series."
                + (
                    " It is an innovation release: no other series reads its data."
                    if is_innovation(extract_series(link.server_version))
                    else ""
                ),
            )


def _require_chain(chain: Sequence[ChainLink]) -> None:
    """Require that each incremental begins where the previous backup ends, on the same server."""
    if chain[0].kind != "full" or any(link.kind != "incremental" for link in chain[1:]):
        raise ArtifactCorrupt("the chain is not a full backup and its incrementals", remedy="Restore another backup.")
    for number in range(1, len(chain)):
        before, after = chain[number - 1].positions, chain[number].positions
        whole = (after.gtid_from, after.binlog_from) == (
            before.gtid,
            None if before.gtid is not None else before.binlog_file,
        )
        if not whole or after.server_uuid != before.server_uuid:
            raise ArtifactCorrupt(
                f"incremental {number} begins at {after.gtid_from or after.binlog_from} of server {after.server_uuid}, "
                f"and the backup before it ends at {before.gtid or before.binlog_file} of server {before.server_uuid}",
                remedy=_REMEDY,
            )


def _open_encrypted(server: PrivateServer) -> None:
    """Read an encrypted table, because a server also starts without keys. Raises ServerFailed."""
    tables = server.query(
        "SELECT table_schema, table_name FROM information_schema.tables WHERE create_options LIKE '%ENCRYPTION=_Y_%'"
    )
    for schema, table in tables:
        server.query(f"SELECT 1 FROM {quote_name(schema)}.{quote_name(table)} LIMIT 1")  # noqa: S608 - names are quoted


def _arrived(server: PrivateServer, lower: Positions) -> Positions:
    """The position of the copy, from the server on it. Raises ToolFailed if that is before the position of the backup."""
    found = _where(server, lower)
    _require_reached(server, lower)
    if lower.gtid is None and lower.binlog_file is not None:
        rows = server.query("SELECT binlog_file, binlog_position FROM performance_schema.clone_status")
        if not rows or not rows[0][0]:
            raise ToolFailed("the server on the restored data does not report the position of its copy")
        name = Path(str(rows[0][0])).name
        return found.model_copy(update={"binlog_file": name, "binlog_position": int(rows[0][1])})
    return found


def _where(server: PrivateServer, known: Positions) -> Positions:
    if known.gtid is None:
        return known
    ((executed,),) = server.query("SELECT @@gtid_executed")
    return Positions(gtid=str(executed).replace("\n", ""), server_uuid=known.server_uuid)


def _require_reached(server: PrivateServer, wanted: Positions) -> None:
    if wanted.gtid:
        ((missing,),) = server.query("SELECT GTID_SUBTRACT(%s, @@gtid_executed)", wanted.gtid)
        if missing:
            raise ToolFailed(f"the restored data lacks {str(missing)[:200]}: rows are missing", remedy=_REMEDY)
