"""A writer under trouble: full, read-only and failing stores, cancelled, killed; nothing is left, nothing is overwritten."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from strongroom.artifact import (
    Location,
    Profile,
    Writer,
    compare_sizes,
    delete_artifact,
    load_manifest,
    new_identity,
    open_artifact,
    report,
)
from strongroom.artifact import (
    writer as writer_module,
)
from strongroom.errors import (
    ArtifactCorrupt,
    ArtifactExists,
    Cancelled,
    ConfigurationError,
    StorageDenied,
    StorageError,
    StorageFull,
)
from strongroom.sections import Artifact, Storage
from strongroom.storage import Stat, Store, open_store
from support.artifacts import FIELDS, SMALL, feed, mb_file, noise, take, write_artifact
from support.stores import Wrapped

DATA = noise(1_000_000)


def files(top: Path) -> list[str]:
    return sorted(str(path.relative_to(top)) for path in top.rglob("*") if not path.is_dir())


def test_intent_first_manifest_last(store: Store, top: Path, here: Location) -> None:
    wrapped = Wrapped(store)
    write_artifact(wrapped, here, mb_file("f", DATA), stream="mbstream", owner="service")
    assert wrapped.puts[0] == here.intent
    assert wrapped.puts[-2:] == [here.index, here.manifest]
    assert "box/one/intent.json" not in files(top)


def test_a_database_that_is_too_large_for_its_segments_is_reported_immediately(store: Store, here: Location) -> None:
    with Writer(store, here, Artifact(), stream="plain") as writer:
        writer.require_capacity(15 * 1024**4)
        with pytest.raises(ConfigurationError, match="about 100 TiB has more than 500000 segments of 32 MiB") as caught:
            writer.require_capacity(100 * 1024**4)
    assert "segment_size to 440401920 (420 MiB)" in caught.value.remedy
    wider = Artifact(segment_size=440401920, memory=3 * 440401920)
    with Writer(store, here, wider, stream="plain") as writer:
        writer.require_capacity(100 * 1024**4)


def test_objects_are_checked_in_batches(store: Store, here: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_MOST_PENDING", 3)
    monkeypatch.setattr(report, "_BATCH", 3)
    manifest = write_artifact(store, here, DATA)
    assert len(manifest.segments) > 6
    assert compare_sizes(store, manifest).ok
    store.delete([here.segment(0), here.segment(4)])
    assert len(compare_sizes(store, manifest).problems) == 2


@pytest.mark.parametrize("what", ["segment", "manifest", "index"])
def test_failing_put_stops_at_once_and_leaves_nothing(store: Store, top: Path, here: Location, what: str) -> None:
    class Failing(Wrapped):
        def put(self, key: str, data: bytes | memoryview, *, create: bool = False) -> Stat:
            if key == {"segment": here.segment(3), "manifest": here.manifest, "index": here.index}[what]:
                raise StorageError("the disk is on fire")
            return super().put(key, data, create=create)

    wrapped = Failing(store)
    stream = mb_file("f", noise(20_000_000))
    with pytest.raises(StorageError, match="on fire"):
        write_artifact(wrapped, here, stream, stream="mbstream")
    assert files(top) == []
    if what == "segment":
        assert len(wrapped.puts) < 20  # of 300


def test_segment_that_the_store_lost_is_detected(store: Store, top: Path, here: Location) -> None:
    class Forgetful(Wrapped):
        def put(self, key: str, data: bytes | memoryview, *, create: bool = False) -> Stat:
            return super().put(key, data[:-1] if key == here.segment(2) else data, create=create)

    with pytest.raises(StorageError, match="not what was written"):
        write_artifact(Forgetful(store), here, DATA)
    assert files(top) == []


def test_wrong_checksum_of_the_store_is_detected(store: Store, here: Location) -> None:
    class Rotten(Wrapped):
        def put(self, key: str, data: bytes | memoryview, *, create: bool = False) -> Stat:
            stat = super().put(key, data, create=create)
            return Stat(stat.key, stat.size, stat.modified, md5="0" * 32)

        def head(self, key: str) -> Stat:
            stat = super().head(key)
            return Stat(stat.key, stat.size, stat.modified, md5=("1" if key == here.segment(1) else "0") * 32)

    with pytest.raises(StorageError, match="00000001 is not what was written"):
        write_artifact(Rotten(store), here, DATA)


@pytest.mark.root
def test_store_full(place: Path, here: Location) -> None:
    top = place / "small"
    top.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", top], check=True)
    try:
        store = open_store(Storage(), top)
        with pytest.raises(StorageFull, match="no space left") as caught:
            write_artifact(store, here, os.urandom(3_000_000))
        assert str(top) in caught.value.remedy
        assert files(top) == []
        write_artifact(store, here, noise(300_000))
        assert take(open_artifact(store, here)) == noise(300_000)
    finally:
        subprocess.run(["umount", top], check=True)


@pytest.mark.root
def test_store_read_only(place: Path, here: Location) -> None:
    top = place / "small"
    top.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", top], check=True)
    try:
        store = open_store(Storage(), top)
        write_artifact(store, Location(container="box", id="before"), DATA)
        subprocess.run(["mount", "-o", "remount,ro", top], check=True)
        with pytest.raises(StorageDenied, match="Read-only") as caught:
            write_artifact(store, here, DATA)
        assert "read-write" in caught.value.remedy
        assert take(open_artifact(store, Location(container="box", id="before"))) == DATA
    finally:
        subprocess.run(["umount", top], check=True)


def test_finished_backup_is_never_changed(store: Store, top: Path, here: Location) -> None:
    first = write_artifact(store, here, DATA)
    before = files(top)
    writer = Writer(store, here, SMALL, stream="plain")
    with pytest.raises(ArtifactExists):
        writer.open()
    writer.abort()
    with pytest.raises(ArtifactExists):
        write_artifact(store, here, noise(5000, 7))
    assert files(top) == before
    assert load_manifest(store, here) == first


def test_first_of_two_writers_to_finish_wins(store: Store, here: Location) -> None:
    writer = Writer(store, here, SMALL, stream="plain")
    writer.open()
    feed(DATA, writer.copy_from)
    store.put(here.manifest, b"somebody else's")
    with pytest.raises(StorageError, match="exists already"):
        writer.finish(**FIELDS, chain="one")
    writer.abort()
    assert store.get(here.manifest) == b"somebody else's"


@pytest.mark.parametrize("moment", ["before the manifest", "during the deletion"])
def test_no_manifest_is_kept_for_deleted_segments(store: Store, top: Path, here: Location, moment: str) -> None:
    """Its host was lost and the job cleaned up after, while the worker went on there."""

    class Race(Wrapped):
        def put(self, key: str, data: bytes | memoryview, *, create: bool = False) -> Stat:
            if key == here.manifest and moment == "before the manifest":
                delete_artifact(store, here)
            return super().put(key, data, create=create)

    class Deletion(Wrapped):
        def delete(self, keys: Any) -> None:
            keys = list(keys)
            if here.segment(0) in keys:
                store.put(here.manifest, b"late", create=True)
            super().delete(keys)

    if moment == "before the manifest":
        with pytest.raises(StorageError, match="were deleted while the backup was written"):
            write_artifact(Race(store), here, DATA)
    else:
        writer = Writer(store, here, SMALL, stream="plain")
        writer.open()
        feed(DATA, writer.copy_from)
        writer.wait()
        delete_artifact(Deletion(store), here)
        writer.abort()
    assert files(top) == []


def test_cancelled_as_soon_as_the_intent_is_stored(store: Store, top: Path, here: Location) -> None:
    class Signal(Wrapped):
        def put(self, key: str, data: Any, *, create: bool = False) -> Stat:
            super().put(key, data, create=create)
            raise Cancelled("the job was cancelled")

    with pytest.raises(Cancelled), Writer(Signal(store), here, SMALL, stream="plain"):
        raise AssertionError("the block begins only after open")
    assert files(top) == []


def test_next_attempt_removes_what_a_killed_one_left(store: Store, top: Path, here: Location) -> None:
    script = f"""
        import os, sys
        from pathlib import Path
        from strongroom.artifact import Location, Writer
        from strongroom.sections import Storage
        from strongroom.storage import open_store
        from support.artifacts import SMALL
        writer = Writer(open_store(Storage(), Path({str(top)!r})), Location(container="box", id="one"), SMALL, stream="plain")
        writer.open()
        writer.copy_from(0)
    """
    worker = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert worker.stdin
    worker.stdin.write(noise(5_000_000))
    worker.stdin.flush()
    deadline = time.monotonic() + 30
    while len(files(top)) < 40 and time.monotonic() < deadline:
        time.sleep(0.01)
    worker.kill()
    worker.wait()
    worker.stdin.close()
    left = files(top)
    assert "box/one/intent.json" in left
    assert len(left) > 40
    (top / "box" / "one" / ".00000077.0123456789abcdef").write_bytes(b"half a segment")
    write_artifact(store, here, DATA)
    assert len(files(top)) == 16 + 1
    assert take(open_artifact(store, here)) == DATA


def test_stop_interrupts_a_read_that_waits(store: Store, top: Path, here: Location) -> None:
    ours, theirs = os.pipe()
    with pytest.raises(Cancelled, match="enough"), Writer(store, here, SMALL, stream="plain") as writer:
        threading.Timer(0.3, writer.stop, [Cancelled("enough")]).start()
        os.write(theirs, b"a beginning")
        writer.copy_from(ours)
    os.close(ours)
    os.close(theirs)
    assert files(top) == []


@pytest.mark.parametrize("waits_in", ["read", "put", "finish"])
def test_stop_from_a_signal_handler(store: Store, top: Path, here: Location, waits_in: str) -> None:
    class Slow(Wrapped):
        def put(self, key: str, data: bytes | memoryview, *, create: bool = False) -> Stat:
            if waits_in != "read" and key == here.segment(0):
                time.sleep(1.5)
            return super().put(key, data, create=create)

    writer = Writer(Slow(store), here, SMALL, stream="plain")
    ours, theirs = os.pipe()
    sent = b"short" if waits_in == "finish" else DATA if waits_in == "put" else b""
    sender = threading.Thread(target=lambda: os.write(theirs, sent) if sent else None)
    before = signal.signal(signal.SIGALRM, lambda *_: writer.stop(Cancelled("enough")))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.4)
        began = time.monotonic()
        with pytest.raises(Cancelled, match="enough"), writer:
            sender.start()
            if waits_in == "finish":
                sender.join()
                os.close(theirs)
            writer.copy_from(ours)
            writer.finish(**FIELDS, chain="one")
        assert time.monotonic() - began < 10
    finally:
        signal.signal(signal.SIGALRM, before)
        os.close(ours)
        sender.join()
        if waits_in != "finish":
            os.close(theirs)
    assert files(top) == []


def test_malformed_stream_is_no_backup(store: Store, top: Path, here: Location) -> None:
    chunks = mb_file("f", DATA)
    for stream in (chunks[:-1], [*chunks, b"rubbish"], []):
        with pytest.raises(ArtifactCorrupt, match="not a whole mbstream"):
            write_artifact(store, here, stream, stream="mbstream")
        assert files(top) == []
    with pytest.raises(ArtifactCorrupt, match="empty"):
        write_artifact(store, here, b"")


def test_an_invalid_recipient_is_reported_before_anything_is_written(store: Store, top: Path, here: Location) -> None:
    secret, _ = new_identity()
    for key in ("age1rubbish", secret):
        with pytest.raises(ConfigurationError, match="not an age public key") as caught:
            Writer(store, here, SMALL, [key], stream="plain")
        assert secret not in str(caught.value)
    assert files(top) == []


def test_small_memory_makes_small_segments(store: Store, here: Location) -> None:
    settings = Artifact(segment_size=32 * 1024**2, memory=1024**2, threads=8)
    manifest = write_artifact(store, here, DATA, settings, [new_identity()[1]])
    assert manifest.segment_size == 256 * 1024
    assert len(manifest.segments) == 4


RSS = """
    import os, sys
    from pathlib import Path
    from strongroom.artifact import Location, Writer, new_identity, open_artifact
    from strongroom.sections import Artifact, Storage
    from strongroom.storage import open_store
    from support.artifacts import FIELDS
    store, here = open_store(Storage(), Path(sys.argv[1])), Location(container="box", id="one")
    def peak():  # not ru_maxrss, which begins with what the parent had at the fork
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024
    if sys.argv[2] == "write":
        with Writer(store, here, Artifact(threads=4), sys.argv[3:], stream="plain") as writer:
            writer.copy_from(0)
            print(writer.finish(**FIELDS, chain="one").raw_size, peak())
    else:
        reader = open_artifact(store, here, sys.argv[3:], settings=Artifact(threads=4))
        for _ in reader.chunks():
            pass
        print(reader.manifest.raw_size, peak())
"""


@pytest.mark.parametrize(("encrypted", "compressible"), [(False, True), (True, False)])
def test_memory_is_bounded_whatever_the_size(place: Path, encrypted: bool, compressible: bool) -> None:
    """More than 1 GB through the writer; when nothing can be compressed less, for it all goes to the disk."""
    identity, recipient = new_identity()
    block = noise(1 << 20) + (bytes(7 << 20) if compressible else os.urandom(7 << 20))
    blocks = 136 if compressible else 48
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command: list[Any] = [sys.executable, "-c", textwrap.dedent(RSS), place / "store"]
    began = time.monotonic()
    keys = ([recipient], [identity]) if encrypted else ([], [])
    writer = subprocess.Popen(
        [*command, "write", *keys[0]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=False, env=environment
    )
    assert writer.stdin and writer.stdout
    for _ in range(blocks):
        writer.stdin.write(block)
    writer.stdin.close()
    wrote = writer.stdout.read().split()
    writer.stdout.close()
    assert writer.wait() == 0
    middle = time.monotonic()
    read = subprocess.run([*command, "read", *keys[1]], stdout=subprocess.PIPE, env=environment, check=True).stdout.split()
    ended = time.monotonic()
    assert int(wrote[0]) == int(read[0]) == len(block) * blocks
    megabytes = len(block) * blocks / 1e6
    for what, seconds, peak in (("write", middle - began, wrote[1]), ("read", ended - middle, read[1])):
        print(f"{what} {megabytes / seconds:.0f} MB/s, {int(peak)} MB")
    assert int(wrote[1]) < 300
    assert int(read[1]) < 300


def test_profile_of_a_large_server_fits() -> None:
    profile = Profile(left_behind=[f"dumps/{n}" for n in range(12_000)], empty_tables=[f"t{n}.m" for n in range(12_000)])
    assert (len(profile.left_behind), profile.left_behind[-1]) == (10_000, "and 2001 more")
    assert Profile.model_validate_json(profile.model_dump_json()) == profile
