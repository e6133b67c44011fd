"""Backups of a real PostgreSQL, rolled forward with its archived WAL: exactly to the target, or not at all."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from strongroom.archive import Contents, LogSegment, Piece, SegmentReader, Stretch, Target, find_window, load_log
from strongroom.artifact import Profile
from strongroom.datastores import RestoredProfile, Server, Version, get, write_restored_profile
from strongroom.datastores.postgresql.archive.access import connect_replication
from strongroom.datastores.postgresql.files.lsn import format_lsn, parse_lsn
from strongroom.datastores.postgresql.replay import gate as gate_module
from strongroom.datastores.postgresql.replay.gate import Gate
from strongroom.datastores.protocol.logs import Cut, Replay, Replayed
from strongroom.errors import ArtifactCorrupt, ArtifactMissing, InvalidRequest, NotFound, StorageError, ToolFailed, Unsupported
from strongroom.storage import Store
from support import postgresql, postgresql_versions, processes
from support.archives import open_directory
from support.identity import run_as
from support.own_postgresql import OwnPostgreSQL
from support.postgresql import FileLink, PostgreSQLServer, scratch
from support.postgresql_profiles import adopted
from support.stores import Wrapped
from support.wal_receiver import LOG, Running, target

driver = get("postgresql")
logs = driver.require_logs()
SETTINGS = "wal_keep_size = 200MB\nmax_wal_size = 200MB\nfsync = off\nautovacuum = off\ntrack_commit_timestamp = on"
TRUST = "local all all trust\nlocal replication all trust\n"
BEAT = "INSERT INTO beat DEFAULT VALUES RETURNING pg_current_wal_insert_lsn()"
BEATS = "SELECT id, (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::bigint, md5(at::text) FROM beat ORDER BY id"
Row = tuple[int, int, str]


@dataclass
class Story:
    """What happened to a server, with the log and the backups that are left of it."""

    store: Store
    top: Path
    place: Path
    user: str
    bases: list[FileLink] = field(default_factory=list)
    """A full, and an incremental on it."""
    rows: list[Row] = field(default_factory=list)
    """Every row of ``beat`` in its order: id, time of the commit, content."""
    contents: Sequence[Contents] = ()
    """Of the log, before a test damages it."""
    before_drop: str = ""
    after_drop: str = ""
    profile: Profile = field(default_factory=Profile)
    version: Version | None = None
    promoted: str = ""
    """The position of the promotion."""

    def until(self, time: int) -> list[Row]:
        return [row for row in self.rows if row[1] <= time]

    def stretch(self, base: FileLink, cut: Cut | None = None, store: Store | None = None) -> Stretch:
        """From the segment in which the base ends to the cut, or to the end of the log."""
        contents = self.contents
        (interval,) = find_window(contents, logs.precedes).intervals
        start = logs.find_start(base.positions, contents)
        assert start is not None
        pieces = [piece for piece in interval.pieces if piece.series >= start.series]
        if cut is not None:
            pieces = [piece for piece in pieces if piece.series <= cut.series]
            pieces[-1] = replace(pieces[-1], stop=_count(contents, pieces[-1], cut.position), end=cut.position)
        segments = contents[start.series].segments
        first = next(n for n in range(pieces[0].stop) if parse_lsn(segments[n].record.end) > parse_lsn(start.position))
        pieces[0] = replace(pieces[0], first=first, begin=segments[first].record.begin)
        return Stretch(store or self.store, LOG, pieces)

    def cut(self, wanted: Target, base: int = 0) -> Cut:
        return logs.find_cut(wanted, self.stretch(self.bases[base]))

    def middle(self) -> LogSegment:
        """A segment between the first base and the promotion."""
        segments = self.contents[0].segments
        stop = parse_lsn(self.bases[0].positions.wal_stop or "")
        after = [each.record for each in segments.values() if parse_lsn(each.record.begin) > stop]
        return after[len(after) // 2]

    def roll(self, cut: Cut, name: str, base: int = 0, store: Store | None = None) -> tuple[Server, Replayed]:
        """A server on the base and the log up to the cut, not started."""
        chain, work = self.bases[: base + 1], scratch(self.place, f"work-{name}")
        server = postgresql.describe(self.place, name, None, self.version)
        postgresql._prepare(server)
        replayed = run_as(server.user, _roll, server, chain, work, self.stretch(chain[-1], cut, store), cut, self.profile)
        return server, replayed


def _count(contents: Sequence[Contents], piece: Piece, position: str) -> int:
    segments = contents[piece.series].segments
    return next(n for n in range(piece.stop) if parse_lsn(segments[n].record.end) >= parse_lsn(position)) + 1


def _roll(server: Server, chain: list[FileLink], work: Path, stretch: Stretch, cut: Cut, profile: Profile) -> Replayed:
    driver.restores.restore(server.version, chain, server.data_dir, work, str, server, log_follows=True)
    start = logs.find_start(chain[-1].positions, load_log(stretch.store, LOG)[0])
    assert start is not None
    seen: list[int] = []
    replay = Replay(stretch, start, cut.position, lambda done, _: seen.append(done), profile)
    replayed = logs.replay(server.version, server.data_dir, work, replay, server)
    profile = profile.model_copy(update={"settings": {**profile.settings, **replayed.settings}})
    write_restored_profile(server.data_dir, RestoredProfile(profile=profile, isolated=True))
    assert seen == sorted(seen)
    assert seen[-1] == parse_lsn(cut.position) - parse_lsn(start.position)
    return replayed


def read(server: Server) -> tuple[list[Row], bool, int]:
    """The rows, whether the dropped table is there, and the timeline."""
    with postgresql.started(server) as instance:
        rows = [(id, time, text) for id, time, text in instance.sql(BEATS, "postgres")]
        ((gone, timeline),) = instance.sql(
            "SELECT to_regclass('gone') IS NOT NULL, (SELECT timeline_id FROM pg_control_checkpoint())", "postgres"
        )
        assert instance.sql("SELECT count(*) FROM gone", "postgres") == [(1000,)] if gone else True
        assert instance.sql("SELECT pg_is_in_recovery()", "postgres") == [(False,)]
        instance.sql("INSERT INTO beat DEFAULT VALUES", "postgres")
    return rows, gone, timeline


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    place = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    place.chmod(0o711)
    try:
        own = OwnPostgreSQL(place, settings=SETTINGS, hba=TRUST, initdb=["--wal-segsize=1"])
        top = scratch(place, "store")
        story = Story(open_directory(top), top, place, own.user)
        _tell(own, story)
        own.end()
        subprocess.run(["chown", "-R", own.user, str(top)], check=True)
        yield story
    finally:
        processes.end(place)
        shutil.rmtree(place, ignore_errors=True)


def _tell(own: OwnPostgreSQL, story: Story) -> None:
    instance = PostgreSQLServer(adopted(own, story.place))
    wanted = replace(target(own.run, story.store), connect=lambda: connect_replication(instance.server))
    own.sql("CREATE TABLE beat (id serial, at timestamptz DEFAULT clock_timestamp())")
    own.sql("CREATE TABLE gone AS SELECT generate_series(1, 1000) AS id")

    def beat(times: int) -> str:
        for _ in range(times):
            position = own.sql(BEAT)
            time.sleep(0.01)
        return position

    with Running(wanted) as running:
        beat(5)
        story.bases.append(postgresql.backup(instance, story.place, "base-0"))
        beat(10)
        own.sql("SELECT pg_create_restore_point('before-release')")
        beat(2)
        own.sql("SELECT pg_create_restore_point('twice'), pg_create_restore_point('twice')")
        story.before_drop = own.sql("SELECT pg_current_wal_insert_lsn()")
        own.sql("DROP TABLE gone")
        story.after_drop = own.sql("SELECT pg_current_wal_insert_lsn()")
        beat(5)
        own.sql("CREATE TABLE bulk AS SELECT g, repeat(md5(g::text), 20) AS t FROM generate_series(1, 8000) AS g")
        own.sql("SELECT pg_logical_emit_message(false, 'large', repeat('y', 3000000))")
        running.wait_for(beat(5))
        story.profile = driver.profiles.read(instance.server)
        story.bases.append(postgresql.backup(instance, story.place, "base-1", story.bases[0]))
        assert story.bases[1].positions.wal_from == story.bases[0].positions.wal_stop
        running.wait_for(beat(5))
        own.end()
        (own.data / "standby.signal").touch()
        os.chown(own.data / "standby.signal", *own._ids())
        subprocess.run([str(own.start)], check=True)
        assert own.sql("SELECT pg_promote()") == "t"
        beat(3)
        own.sql("SELECT pg_switch_wal()")
        beat(2)
        running.wait_for(own.sql("SELECT pg_current_wal_flush_lsn()"))
        story.contents = load_log(story.store, LOG)[0]
        rows = [line.split("|") for line in own.sql(BEATS).splitlines()]
        story.rows = [(int(id), int(time), text) for id, time, text in rows]
        story.promoted = (own.data / "pg_wal" / "00000002.history").read_text().split()[1]


def at(time: int) -> Target:
    seconds, micro = divmod(time, 10**6)
    return Target.parse(f"{_utc(seconds)}.{micro:06d}+00:00")


def _utc(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


# --- positions


def test_the_cut_of_a_time_is_between_its_transactions(story: Story) -> None:
    later = [row for row in story.rows if row[0] > 5]
    for row, following in pairwise(later):
        for moment in (row[1], following[1] - 1):
            cut = story.cut(at(moment))
            assert cut.last is not None and cut.next is not None
            assert cut.last.time <= moment < cut.next.time
            assert parse_lsn(cut.last.end) <= parse_lsn(cut.position) <= parse_lsn(cut.next.begin)
    cut = story.cut(at(later[-1][1]))
    assert (cut.position, cut.next) == (story.cut(Target.parse("latest")).position, None)
    assert [story.cut(at(row[1])).series for row in (later[0], later[-1])] == [0, 1]
    assert story.cut(at(later[-1][1]), base=1) == cut


def test_a_time_outside_the_log_is_refused_with_the_nearest(story: Story) -> None:
    with pytest.raises(NotFound, match="contains a transaction") as refused:
        story.cut(at(story.rows[0][1] - 1))
    assert "The nearest time is" in refused.value.remedy
    with pytest.raises(NotFound, match="is stored until"):
        story.cut(at(story.rows[-1][1] + 3600 * 10**6))


def test_the_cut_of_an_lsn_is_after_the_last_whole_record(story: Story) -> None:
    drop = story.cut(Target.parse(f"lsn:{story.after_drop}"))
    assert drop.position == story.after_drop
    middle = parse_lsn(story.after_drop) - 8
    assert story.before_drop == story.cut(Target.parse(f"lsn:{story.before_drop}")).position
    assert parse_lsn(story.before_drop) <= parse_lsn(story.cut(Target.parse(f"lsn:{format_lsn(middle)}")).position) < middle
    for text, error in (("lsn:0/1", NotFound), ("lsn:F/0", NotFound), ("lsn:x", InvalidRequest), ("gtid:0-1-2", InvalidRequest)):
        with pytest.raises(error):
            story.cut(Target.parse(text))


def test_a_restore_point_is_found_by_its_name(story: Story) -> None:
    cut = story.cut(Target.parse("point:before-release"))
    assert cut.last is not None and cut.last.time == story.rows[14][1]
    assert cut.next is not None and cut.next.time == story.rows[15][1]
    with pytest.raises(NotFound) as missing:
        story.cut(Target.parse("point:other"))
    assert "before-release" in missing.value.remedy
    with pytest.raises(InvalidRequest) as ambiguous:
        story.cut(Target.parse("point:twice"))
    assert ambiguous.value.remedy.count("lsn:") == 2


# --- rows


def test_to_a_time_and_to_a_microsecond_before_it(story: Story) -> None:
    row = story.rows[12]
    for name, moment in (("at", row[1]), ("before", row[1] - 1)):
        server, replayed = story.roll(story.cut(at(moment)), name)
        left = {path.name for path in server.data_dir.iterdir()}
        assert not left & {"recovery.signal", "backup_label", "postmaster.opts", "strongroom_incomplete", "strongroom_wal"}
        rows, gone, timeline = read(server)
        assert rows == story.until(moment)
        assert (gone, timeline, replayed.positions.timeline) == (True, 3, 3)  # the source has used 2


def test_before_and_after_a_drop(story: Story) -> None:
    for name, position, expected in (("whole", story.before_drop, True), ("dropped", story.after_drop, False)):
        server, replayed = story.roll(story.cut(Target.parse(f"lsn:{position}")), name)
        rows, gone, _ = read(server)
        assert (rows, gone, replayed.positions.wal_stop) == (story.rows[:17], expected, position)


@pytest.mark.parametrize("base", [0, 1])
def test_to_the_latest_over_a_promotion(story: Story, base: int) -> None:
    server, _ = story.roll(story.cut(Target.parse("latest"), base), f"latest-{base}", base)
    assert read(server) == (story.rows, False, 3)


def test_to_the_promotion_itself(story: Story) -> None:
    cut = story.cut(Target.parse(f"lsn:{story.promoted}"))
    assert (cut.series, cut.position) == (0, story.promoted)
    server, _ = story.roll(cut, "promotion", 1)
    assert read(server)[0] == story.rows[:-5]


def test_to_the_end_of_the_backup(story: Story) -> None:
    """Its last file of WAL may contain later transactions."""
    position = story.bases[0].positions.wal_stop
    cut = story.cut(Target.parse(f"lsn:{position}"))
    server, replayed = story.roll(cut, "end")
    assert (cut.position, replayed.positions.wal_stop) == (position, position)
    assert read(server)[0] == story.rows[:5]


# --- log that cannot be read


class Withheld(Wrapped):
    """A store that fails for one object."""

    def __init__(self, store: Store, key: str) -> None:
        super().__init__(store)
        self.key = key

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        if key == self.key:
            raise StorageError("the store does not answer")
        return super().get(key, start=start, length=length)


@pytest.fixture
def changed(story: Story) -> Iterator[Callable[[str, bytes | None], None]]:
    """Replace objects of the store for the time of a test."""
    before: dict[str, bytes] = {}

    def change(key: str, data: bytes | None) -> None:
        before.setdefault(key, story.store.get(key))
        story.store.delete([key])
        if data is not None:
            story.store.put(key, data)
            subprocess.run(["chown", "-R", story.user, str(story.top)], check=True)

    yield change
    for key, data in before.items():
        story.store.delete([key])
        story.store.put(key, data)
    subprocess.run(["chown", "-R", story.user, str(story.top)], check=True)


def require_failure(story: Story, name: str, error: type[Exception], match: str, store: Store | None = None) -> None:
    cut = story.cut(Target.parse("latest"))
    with pytest.raises(error, match=match):
        story.roll(cut, name, store=store)
    data = story.place / name / "data"
    assert (data / "strongroom_incomplete").exists()
    assert not re.search("archive recovery complete", (story.place / f"work-{name}" / "replay.log").read_text())


def test_a_missing_segment_fails_the_restore(story: Story, changed: Callable[[str, bytes | None], None]) -> None:
    changed(story.middle().data_key, None)
    require_failure(story, "missing", ArtifactMissing, "is missing")


def test_a_flipped_byte_fails_the_restore(story: Story, changed: Callable[[str, bytes | None], None]) -> None:
    data = bytearray(story.store.get(story.middle().data_key))
    data[len(data) // 2] ^= 1
    changed(story.middle().data_key, bytes(data))
    require_failure(story, "flipped", ArtifactCorrupt, "its SHA-256 is wrong")


def test_swapped_segments_fail_the_restore(story: Story, changed: Callable[[str, bytes | None], None]) -> None:
    one = story.middle()
    other = SegmentReader(story.store, LOG.series(0))
    following = next(other.segments(one.number + 1, one.number + 2))
    data = [story.store.get(each.data_key) for each in (one, following)]
    changed(one.data_key, data[1])
    changed(following.data_key, data[0])
    require_failure(story, "swapped", ArtifactCorrupt, "is damaged")


def test_a_store_that_fails_ends_the_restore(story: Story) -> None:
    require_failure(story, "silent", StorageError, "does not answer", Withheld(story.store, story.middle().data_key))


def test_a_server_that_ended_too_early_is_noticed(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the command reported a file that cannot be read as one that does not exist, the server would serve what it has."""
    monkeypatch.setattr(gate_module, "_SCRIPT", gate_module._SCRIPT.replace("exit 200", "exit 1"))
    cut = story.cut(Target.parse("latest"))
    with pytest.raises((ToolFailed, StorageError), match=r"rows are missing|does not answer"):
        story.roll(cut, "early", store=Withheld(story.store, story.middle().data_key))
    assert "archive recovery complete" in (story.place / "work-early" / "replay.log").read_text()


def test_wal_of_the_backup_that_is_not_the_archived_one_is_refused(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    restore = driver.restores.restore

    def change(*args: Any, **options: Any) -> Any:
        restored = restore(*args, **options)
        folder = args[2] / "pg_wal"
        last = max(path for path in folder.iterdir() if len(path.name) == 24)
        with last.open("r+b") as file:
            file.seek(parse_lsn(restored.positions.wal_stop) % (1 << 20) - 1)
            file.write(b"\xff")
        return restored

    monkeypatch.setattr(driver.restores, "restore", change)
    with pytest.raises(ArtifactCorrupt, match="is not the archived one"):
        story.roll(story.cut(Target.parse("latest")), "other")


class Slow(Withheld):
    """A store that does not answer for one object."""

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        if key == self.key:
            time.sleep(3600)
        return super().get(key, start=start, length=length)


def test_a_worker_that_is_killed_leaves_no_process(story: Story) -> None:
    cut = story.cut(Target.parse("latest"))
    child = os.fork()
    if child == 0:
        try:
            story.roll(cut, "killed", store=Slow(story.store, story.middle().data_key))
        finally:
            os._exit(0)
    data, deadline = story.place / "killed", time.monotonic() + 60
    while not any("gate/client" in command for command in processes.below(data).values()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    (worker,) = (int(each) for each in Path(f"/proc/{child}/task/{child}/children").read_text().split())
    os.kill(worker, signal.SIGKILL)
    os.waitpid(child, 0)
    while left := processes.below(data):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


# --- the command that the server calls


def test_the_command_fails_when_nobody_answers(place: Path) -> None:
    folder = place / "gate"
    folder.mkdir()
    gate = Gate.__new__(Gate)
    gate._folder = folder
    (folder / "client").write_text(gate_module._SCRIPT)
    command = ["sh", "-c", gate.command.replace("%f", "000000010000000000000001").replace("%p", "pg_wal/RECOVERYXLOG")]
    assert subprocess.run(command, timeout=10, check=False, stderr=subprocess.DEVNULL).returncode == 200
    for name in ("ask", "answer"):
        (folder / name).unlink()
        os.mkfifo(folder / name)
    assert subprocess.run(command, timeout=10, check=False).returncode == 200
    answer = os.open(folder / "answer", os.O_RDWR)
    for text, status in (("present", 0), ("absent", 1), ("trouble", 200), ("", 200)):
        os.write(answer, f"000000010000000000000001 {text}\n".encode())
        assert subprocess.run(command, timeout=10, check=False).returncode == status
    os.write(answer, b"000000010000000000000002 absent\n")
    assert subprocess.run(command, timeout=10, check=False).returncode == 200
    waiting = subprocess.Popen(command)
    time.sleep(0.2)
    os.close(answer)  # as the worker does when it dies
    assert waiting.wait(10) == 200


def test_a_tablespace_in_the_log_ends_the_restore(place: Path) -> None:
    """It would be made where the source has it."""
    own = OwnPostgreSQL(place, settings=SETTINGS, hba=TRUST, initdb=["--wal-segsize=1"])
    top = scratch(place, "store")
    story = Story(open_directory(top), top, place, own.user)
    instance = PostgreSQLServer(adopted(own, place))
    first, space = scratch(place, "first"), scratch(place, "space")
    own.sql(f"CREATE TABLESPACE first LOCATION '{first}'")
    own.sql("CREATE TABLE beat (id int) TABLESPACE first")
    with Running(replace(target(own.run, story.store), connect=lambda: connect_replication(instance.server))) as running:
        story.bases.append(postgresql.backup(instance, place, "base-0"))
        own.sql("INSERT INTO beat VALUES (1)")
        position = own.sql("SELECT pg_current_wal_insert_lsn()")
        own.sql(f"CREATE TABLESPACE other LOCATION '{space}'")
        running.wait_for(own.sql("SELECT pg_current_wal_insert_lsn()"))
    story.contents = load_log(story.store, LOG)[0]
    before = sorted(path.name for path in space.rglob("*"))
    subprocess.run(["chown", "-R", own.user, str(top)], check=True)
    with pytest.raises(Unsupported, match="a tablespace was created in the log"):
        story.roll(story.cut(Target.parse("latest")), "spaces")
    assert sorted(path.name for path in space.rglob("*")) == before
    server, _ = story.roll(story.cut(Target.parse(f"lsn:{position}")), "earlier")
    with postgresql.started(server) as restored:
        assert restored.sql("SELECT id FROM beat", "postgres") == [(1,)]


def test_what_changed_after_the_backup_on_another_version(place: Path) -> None:
    version = postgresql_versions.version("18")
    own = OwnPostgreSQL(place, use=version, settings=SETTINGS, hba=TRUST)
    top = scratch(place, "store")
    story = Story(open_directory(top), top, place, own.user, version=version)
    instance = PostgreSQLServer(adopted(own, place, of=version))
    own.sql("CREATE TABLE beat (id serial, at timestamptz DEFAULT clock_timestamp()); CREATE TABLE gone AS SELECT 1 AS id")
    with Running(replace(target(own.run, story.store), connect=lambda: connect_replication(instance.server))) as running:
        story.profile = driver.profiles.read(instance.server)
        story.bases.append(postgresql.backup(instance, place, "base-0"))
        own.sql("INSERT INTO gone SELECT generate_series(2, 1000)")
        for _ in range(5):
            position = own.sql(BEAT)
        own.sql("DROP TABLE gone")
        own.sql(BEAT)
        own.sql("ALTER SYSTEM SET max_prepared_transactions = 2")
        own.end()
        subprocess.run([str(own.start)], check=True)
        own.sql("BEGIN; INSERT INTO beat DEFAULT VALUES; PREPARE TRANSACTION 'pending'")
        rows = [line.split("|") for line in own.sql(BEATS).splitlines()]
        own.sql("CREATE ROLE boss SUPERUSER LOGIN")
        running.wait_for(own.sql("SELECT pg_current_wal_flush_lsn()"))  # it is connected again
        with own.connect("boss") as connection:
            connection.execute("ALTER ROLE postgres RENAME TO nobody")
            ((end,),) = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchall()
        running.wait_for(end)
    story.contents = load_log(story.store, LOG)[0]
    subprocess.run(["chown", "-R", own.user, str(top)], check=True)
    server, _ = story.roll(story.cut(at(int(rows[4][1]))), "moment")
    assert parse_lsn(position) <= parse_lsn((server.data_dir / "strongroom_restored").read_text().split()[0])
    assert read(server) == ([(int(id), int(time), text) for id, time, text in rows[:5]], True, 2)
    server, replayed = story.roll(story.cut(Target.parse("latest")), "latest")
    assert replayed.settings == {"max_prepared_transactions": "1"}  # at the time of the backup, none was allowed
    with postgresql.started(server) as restored:  # whatever its superuser is
        assert restored.sql("SELECT gid FROM pg_prepared_xacts", "postgres") == [("pending",)]
