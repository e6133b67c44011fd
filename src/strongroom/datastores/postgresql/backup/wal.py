"""Takes an incremental of a server that cannot report changed blocks: a tar stream of all WAL since the parent."""

from __future__ import annotations

import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg

import strongroom
from strongroom.artifact import Collation, Positions
from strongroom.datastores.postgresql.backup import slot
from strongroom.datastores.postgresql.backup.full import require_own_data
from strongroom.datastores.postgresql.backup.witness import leave_witness, require_witness
from strongroom.datastores.postgresql.files import lsn, tablespaces, wal
from strongroom.datastores.postgresql.files.tree import explain_links, find_data_links, measure_data
from strongroom.datastores.postgresql.profile.collations import read_collations
from strongroom.datastores.postgresql.server.connection import Connection, connect, describe_server, query
from strongroom.datastores.postgresql.server.versions import extract_number, require_series
from strongroom.datastores.protocol.backups import BackupRequest, BackupResult
from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.toolkit.feed import Fed, write_all
from strongroom.errors import ConfigurationError, LineageChanged, ServerFailed, ToolFailed, WalGone

FOLDER = "pg_wal"
_BLOCK = 512
_FULL = "Take a full backup; later incrementals are based on it."
_MAX_HISTORY = 1 << 20


class Source:
    """The WAL of the backup: complete files that the server no longer writes to, and the history of their timeline."""

    def __init__(self, server: Server, system: int, size: int, history: wal.History, start: int, stop: int) -> None:
        self.system, self.size, self.history, self.stop = system, size, history, stop
        self._folder = server.data_dir / FOLDER
        self.names = history.files((start - 1) // size * size + size, -(-stop // size) * size, size) if stop > start else []

    def require_all(self) -> None:
        """Raises WalGone, naming the first missing file."""
        for name in self.names:
            if not (self._folder / name).is_file():
                raise explain_missing_wal(f"WAL file {name}, which comes after the parent backup, is not on the server any more")

    def stream(self) -> Iterator[bytes]:
        """A tar stream of the files, each verified. Raises WalGone, ServerFailed."""
        if self.history.current > 1:
            name = wal.history_file(self.history.current)
            text = (self._folder / name).read_bytes()
            yield from (_header(name, len(text)), text, bytes(-len(text) % _BLOCK))
        for name in self.names:
            yield _header(name, self.size)
            try:
                with (self._folder / name).open("rb") as file:
                    yield from wal.verify_content(file.fileno(), name, self.size, self.system, self.history)
            except (FileNotFoundError, wal.Recycled) as error:
                raise explain_missing_wal(
                    f"WAL file {name} was removed by the server while it was backed up ({error})"
                ) from error
            except wal.Unfit as error:
                raise ServerFailed(
                    f"the WAL of the server is damaged: {error}", remedy=f"Look for a failing disk. {_FULL}"
                ) from error
        yield bytes(2 * _BLOCK)

    @property
    def start(self) -> int:
        """The WAL position where its first file begins."""
        return wal.find_address(self.names[0], self.size) if self.names else self.stop

    @property
    def bytes(self) -> int:
        """The approximate size of the stream."""
        return (self.size + _BLOCK) * len(self.names) + 2 * _BLOCK


def explain_missing_wal(why: str) -> WalGone:
    """The error with the text that Trove's users know; the remedy adds details."""
    return WalGone(
        "Cannot find parent backup WAL file.",
        remedy=f"{why}. {_FULL} Take incrementals more often, or raise `wal_limit` in [agent], so that it is kept.",
    )


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(f"{FOLDER}/{name}")
    info.size, info.mode = size, 0o600
    return info.tobuf(tarfile.USTAR_FORMAT)


class Session(Fed):
    """Writes WAL into a pipe: the caller reads ``stdout`` to its end, then calls ``finish``."""

    def __init__(self, server: Server, request: BackupRequest, source: Source, positions: Positions, number: str) -> None:
        super().__init__()
        self.expected = source.bytes
        self.collations: list[Collation] = []
        self._source = source
        self._positions, self._number, self._server = positions, number, server
        self._data_bytes = measure_data(server.data_dir)
        self._start()

    def _produce(self, out: int) -> None:
        for piece in self._source.stream():
            write_all(out, piece)

    def finish(self) -> BackupResult:
        """Raises WalGone, ServerFailed unless every page was verified."""
        self._join()
        witness, warnings = leave_witness(self._server)
        return BackupResult(
            tool="strongroom",
            tool_version=strongroom.__version__,
            server_version=self._number,
            positions=self._positions,
            data_bytes=self._data_bytes,
            collations=self.collations,
            witness=witness,
            warnings=warnings,
        )


def begin(server: Server, request: BackupRequest) -> Session:
    """Mark the end of the backup in the WAL, check that all WAL since the parent exists, then start."""
    parent = request.parent
    if parent is None or parent.wal_stop is None or parent.timeline is None:
        raise ConfigurationError("the parent backup has no WAL location", remedy=_FULL)
    with connect(server) as connection:
        ((number, data_dir, system, size),) = query(
            connection,
            "SELECT current_setting('server_version'), current_setting('data_directory'),"
            " (SELECT system_identifier FROM pg_control_system()),"
            " (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size')",
        )
        server_version = extract_number(number)
        require_series(server.version, server_version, f"the server {server.name or server.id}")
        require_own_data(server, Path(data_dir))
        tablespaces.require_supported(connection, server)
        if links := find_data_links(server.data_dir):
            raise explain_links(links, server.data_dir)
        if parent.system_identifier not in (None, str(system)):
            raise LineageChanged(f"{describe_server(server)} is another database than the one that was backed up", remedy=_FULL)
        try:
            slot.keep(connection, server)
            source = _find_source(connection, server, parent, system, size)
            collations = read_collations(connection)
            source.require_all()
            require_witness(connection, server, request, source.history)
        except psycopg.Error as error:
            raise ServerFailed(
                f"{describe_server(server)} refuses an incremental backup: {error.diag.message_primary or error}",
                remedy="`strongroom check` says which rights the account of the backup needs.",
            ) from error
    if source.names:
        try:  # pg_waldump also checks every record
            span = (source.history.current, source.start, source.stop)
            tablespaces.refuse_in_wal(server, source.names, span, request.work_dir)
        except ToolFailed as error:
            source.require_all()
            raise ServerFailed(
                f"the WAL of the server is damaged: {error.message}", remedy=f"Look for a failing disk. {_FULL}"
            ) from error
    positions = Positions(
        wal_from=parent.wal_stop,
        wal_stop=lsn.format_lsn(source.stop),
        timeline=source.history.current,
        system_identifier=str(system),
    )
    session = Session(server, request, source, positions, server_version)
    session.collations = collations
    return session


def _find_source(connection: Connection, server: Server, parent: Positions, system: int, size: int) -> Source:
    """All WAL from the parent's end to a record that is written now; then the server switches to a new file."""
    assert parent.wal_stop is not None and parent.timeline is not None
    start = lsn.parse_lsn(parent.wal_stop)
    ((now,),) = query(connection, "SELECT pg_current_wal_flush_lsn()::text")
    if lsn.parse_lsn(now) < start:
        raise LineageChanged(
            f"{describe_server(server)} is at {now}, before the end of the parent backup at {parent.wal_stop}: "
            "its data was replaced by an older copy",
            remedy=_FULL,
        )
    ((stop, name),) = query(
        connection,
        "SELECT stop::text, pg_walfile_name(stop) FROM pg_create_restore_point(%s) AS stop",
        f"strongroom {uuid.uuid4()}",
    )
    query(connection, "SELECT pg_switch_wal()")
    history = _read_history(server, int(name[:8], 16))
    try:
        left = history.left(parent.timeline)
    except wal.Unfit as error:
        raise LineageChanged(
            f"{describe_server(server)} is on another history than the parent backup: {error}", remedy=_FULL
        ) from error
    if left is not None and left < -(-start // size) * size:
        raise LineageChanged(
            f"{describe_server(server)} left timeline {parent.timeline} at {lsn.format_lsn(left)}, "
            "before the end of the parent backup",
            remedy=_FULL,
        )
    return Source(server, system, size, history, start, lsn.parse_lsn(stop))


def _read_history(server: Server, timeline: int) -> wal.History:
    if timeline == 1:
        return wal.History(1)
    path = server.data_dir / FOLDER / wal.history_file(timeline)
    try:
        text = path.read_bytes()[:_MAX_HISTORY].decode(errors="replace")
        return wal.History.parse(timeline, text)
    except FileNotFoundError as error:
        raise explain_missing_wal(f"{path.name}, the history of the timeline, is not on the server any more") from error
    except (OSError, wal.Unfit) as error:
        raise ServerFailed(f"{path} cannot be read: {error}", remedy=_FULL) from error
