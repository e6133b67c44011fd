"""The directory store: durability, permissions, and leftovers of killed writers and other users."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from strongroom.errors import StorageDenied, StorageError, StorageNotFound
from strongroom.storage import DirectoryStore

GID = 54321


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


def run_as(user: str, groups: list[int], script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script as another OS user, as for a worker."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        user=user,
        group=user if user != "nobody" else "nogroup",
        extra_groups=groups,
        umask=0o077,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


PUT = """
    import sys
    from pathlib import Path
    from strongroom.storage import DirectoryStore
    store = DirectoryStore(Path(sys.argv[1]), gid=int(sys.argv[2]) if sys.argv[2] else None)
    for key in sys.argv[3:]:
        store.put(key, b"data")
        assert store.get(key) == b"data"
"""


def test_order_of_system_calls(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirectoryStore(place / "store")
    store.put("c/a/other", b"x")
    calls: list[str] = []

    def record(name: str) -> None:
        real = getattr(os, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            kind = ""
            if name == "fsync":
                kind = " folder" if stat.S_ISDIR(os.fstat(arguments[0]).st_mode) else " file"
            calls.append(name + kind)
            return real(*arguments, **options)

        monkeypatch.setattr(os, name, wrapped)

    for name in ("pwrite", "fsync", "link", "unlink", "rename", "mkdir", "rmdir"):
        record(name)
    store.put("c/a/0", b"x")
    assert calls == ["pwrite", "fsync file", "rename", "fsync folder"]
    calls.clear()
    store.put("c/a/1", b"x", create=True)
    assert calls == ["pwrite", "fsync file", "link", "unlink", "fsync folder"]
    calls.clear()
    store.put("d/b/0", b"x")
    assert calls == ["mkdir", "fsync folder"] * 2 + ["pwrite", "fsync file", "rename", "fsync folder"]
    calls.clear()
    store.delete(["c/a/0", "c/a/1"])
    assert calls[:3] == ["unlink", "unlink", "fsync folder"]


def test_store_without_a_group_is_private(place: Path) -> None:
    DirectoryStore(place / "new" / "deep" / "store").put("c/a/0", b"x")
    top = place / "new" / "deep" / "store"
    assert [mode(p) for p in (top, top / "c", top / "c" / "a", top / "c" / "a" / "0")] == ["0o700", "0o700", "0o700", "0o600"]
    assert mode(place / "new") == "0o711"


@pytest.mark.root
def test_group_members_share_containers_but_not_artifacts(place: Path) -> None:
    top = place / "store"
    DirectoryStore(top, gid=GID)
    assert (mode(top), top.stat().st_gid) == ("0o3770", GID)
    done = run_as("mysql", [GID], PUT, top, GID, "box/mine/0", "box/mine/1")
    assert done.returncode == 0, done.stderr
    done = run_as("nobody", [GID], PUT, top, GID, "box/other/0")
    assert done.returncode == 0, done.stderr
    assert (mode(top / "box"), (top / "box").stat().st_gid) == ("0o3770", GID)
    assert mode(top / "box" / "mine") == "0o2700"  # the group is inherited but has no permissions
    assert mode(top / "box" / "mine" / "0") == "0o600"
    for script in ("store.get('box/mine/0')", "store.put('box/mine/2', b'x')", "store.delete(['box/mine/0'])"):
        done = run_as("nobody", [GID], textwrap.dedent(PUT) + script, top, GID)
        assert "StorageDenied" in done.stderr, done.stderr
        assert "no permission for file://" in done.stderr
    done = run_as("nobody", [GID], f"import os; os.rename('{top}/box/mine', '{top}/box/stolen')")
    assert "PermissionError" in done.stderr
    done = run_as("nobody", [], PUT, top, "", "box/x/0")
    assert "StorageDenied" in done.stderr
    look = """
        from strongroom.artifact import Location, require_container
        print(list(store.folders("box")))
        require_container(store, Location(container="box", id="other"))
    """
    done = run_as("nobody", [GID], textwrap.dedent(PUT) + textwrap.dedent(look), top, GID)
    assert done.stdout.strip() == "['mine', 'other']", done.stderr
    assert done.returncode == 0, done.stderr
    root = DirectoryStore(top, gid=GID)
    assert [s.key for s in root.list("box")] == ["box/mine/0", "box/mine/1", "box/other/0"]
    root.delete([s.key for s in root.list("box/mine")])
    assert [s.key for s in root.list("")] == ["box/other/0"]


@pytest.mark.root
def test_servers_of_several_users_write_to_a_folder_that_belongs_to_no_backup(place: Path) -> None:
    top = place / "store"
    DirectoryStore(top, gid=GID)
    for user in ("mysql", "nobody"):
        done = run_as(user, [GID], PUT, top, GID, f"box/_logs/{user}/0")
        assert done.returncode == 0, done.stderr
    assert (mode(top / "box" / "_logs"), mode(top / "box" / "_logs" / "mysql")) == ("0o3770", "0o2700")


@pytest.mark.root
def test_an_empty_directory_is_shared_and_one_with_files_is_not_changed(place: Path) -> None:
    prepared, used = place / "prepared", place / "used"
    for folder in (prepared, used):
        folder.mkdir(0o755)
    (prepared / "lost+found").mkdir()
    (used / "photos").mkdir()
    DirectoryStore(prepared, gid=GID)
    DirectoryStore(used, gid=GID)
    assert (mode(prepared), prepared.stat().st_gid) == ("0o3770", GID)
    assert (mode(used), used.stat().st_gid) == ("0o755", 0)
    done = run_as("mysql", [GID], PUT, used, GID, "box/a/0")
    assert "StorageDenied" in done.stderr
    assert list(used.iterdir()) == [used / "photos"]


def test_symbolic_links_are_not_followed(place: Path) -> None:
    store = DirectoryStore(place / "store")
    store.put("c/a/0", b"x")
    outside = place / "outside"
    outside.mkdir()
    (outside / "0").write_bytes(b"secret")
    (place / "store" / "c" / "link").symlink_to(outside)
    (place / "store" / "c" / "a" / "1").symlink_to(outside / "0")
    for call in (
        lambda: store.get("c/link/0"),
        lambda: store.head("c/link/0"),
        lambda: store.put("c/link/0", b"overwritten"),
        lambda: store.delete(["c/link/0"]),
        lambda: store.get("c/a/1"),
        lambda: store.head("c/a/1"),
    ):
        with pytest.raises(StorageDenied, match="symbolic link"):
            call()
    store.put("c/a/1", b"mine")  # replaces the link and does not write to its target
    assert store.get("c/a/1") == b"mine"
    assert (outside / "0").read_bytes() == b"secret"
    assert [s.key for s in store.list("c")] == ["c/a/0", "c/a/1"]
    assert list(store.folders("c")) == ["a"]


def test_only_regular_files_are_objects(place: Path) -> None:
    store = DirectoryStore(place / "store")
    store.put("c/a/0", b"x")
    os.mkfifo(place / "store" / "c" / "a" / "pipe")
    with pytest.raises(StorageError):
        store.get("c/a/pipe")
    assert [s.key for s in store.list("c")] == ["c/a/0"]
    with pytest.raises(StorageError):
        store.put("c/a/0/below", b"x")


def test_leftovers_of_a_killed_writer_are_hidden_and_removed(place: Path) -> None:
    store = DirectoryStore(place / "store")
    store.put("c/a/0", b"x")
    folder = place / "store" / "c" / "a"
    dead, alive = folder / ".1.0123456789abcdef", folder / ".2.0123456789abcdef"
    dead.write_bytes(b"half")
    with alive.open("wb") as writing:
        fcntl.flock(writing, fcntl.LOCK_EX)
        assert [s.key for s in store.list("")] == ["c/a/0"]
        store.delete(["c/a/0"])
        assert [path.name for path in folder.iterdir()] == [alive.name]
    store.delete(["c/a/0"])
    assert not folder.exists()
    assert (place / "store" / "c").exists()


def test_writer_killed_during_put(place: Path) -> None:
    """Every object is stored completely or not at all."""
    script = """
        import sys
        from pathlib import Path
        from strongroom.storage import DirectoryStore
        store = DirectoryStore(Path(sys.argv[1]))
        data = bytes(3_000_000)
        for n in range(100_000):
            store.put(f"c/a/{n:08d}", data)
    """
    for attempt in range(5):
        top = place / f"store{attempt}"
        worker = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script), top])
        folder = top / "c" / "a"
        deadline = time.monotonic() + 20
        while not (folder.exists() and any(folder.glob("[0-9]*"))) and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(0.003 * attempt)
        worker.kill()
        worker.wait()
        store = DirectoryStore(top)
        found = list(store.list(""))
        assert found
        assert {s.size for s in found} == {3_000_000}
        assert [s.key for s in found] == [f"c/a/{n:08d}" for n in range(len(found))]
        store.delete([s.key for s in found])
        assert not folder.exists()


def test_concurrent_put_and_delete_in_one_folder(place: Path) -> None:
    store = DirectoryStore(place / "store")
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(100):
                store.put(f"c/a/{number}", b"x")
                assert store.get(f"c/a/{number}") == b"x"
                store.delete([f"c/a/{number}"])
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert list(store.list("")) == []


def test_object_deleted_while_it_is_listed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirectoryStore(place / "store")
    for name in ("0", "1"):
        store.put(f"c/a/{name}", b"x")
    real = os.scandir

    @contextmanager
    def scandir(folder: int) -> Iterator[list[os.DirEntry[str]]]:
        with real(folder) as found:
            entries = list(found)
            (place / "store/c/a/0").unlink(missing_ok=True)
            yield entries

    monkeypatch.setattr(os, "scandir", scandir)
    assert [stat.key for stat in store.list("c/a")] == ["c/a/1"]


def test_unmounted_store(place: Path) -> None:
    store = DirectoryStore(place / "store")
    (place / "store").rmdir()
    with pytest.raises(StorageError, match="its folder does not exist") as caught:
        store.put("c/a/0", b"x")
    assert str(place / "store") in caught.value.remedy
    with pytest.raises(StorageNotFound):
        store.get("c/a/0")


def test_path_of_the_store_is_a_file(place: Path) -> None:
    (place / "store").write_text("x")
    store = DirectoryStore(place / "store")
    with pytest.raises(StorageDenied):
        store.put("c/a/0", b"x")
    with pytest.raises(StorageError):
        DirectoryStore(place / "store" / "below")


def test_a_signal_right_after_the_file_was_created_leaves_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirectoryStore(place / "store")
    store.put("c/a/0", b"x")
    open_file = os.open

    def open_and_interrupt(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        file = open_file(path, flags, *rest, **options)
        if flags & os.O_EXCL:
            os.close(file)
            raise KeyboardInterrupt
        return file

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "open", open_and_interrupt)
        store.put("c/a/1", b"x")
    assert os.listdir(place / "store" / "c" / "a") == ["0"]  # noqa: PTH208
