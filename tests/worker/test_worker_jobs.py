"""Complete jobs in a worker process: backup, incremental, restore, verify, initialize; and their errors."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.artifact import load_manifest, new_identity, read_manifest
from strongroom.datastores import Server, get
from strongroom.sections import Artifact
from strongroom.worker.spec import InitializeJob, Job
from support import jobs, mariadb
from support.artifacts import mb_file
from support.identity import server_user
from support.jobs import WorkerProcess
from support.load import Writer, proven
from support.mariadb import MariaDBServer

driver = get("mariadb")
MB = 1 << 20


@pytest.fixture
def a(place: Path, pool: str) -> Iterator[MariaDBServer]:
    with mariadb.running(place, pool) as running:
        running.fill(300)
        yield running


def run(place: Path, name: str, job: Job, server: Server | None = None) -> WorkerProcess:
    return WorkerProcess(place, name, job, user=server.user if server else server_user(), server=server)


def failure(worker: WorkerProcess) -> tuple[str, str]:
    """The code and message of a job that must fail."""
    result = worker.wait()
    assert result.status == "failed" and result.failure is not None, worker.log.read_text()
    assert not worker.tools()
    return result.failure.code, result.failure.message


def put_in_place(server: MariaDBServer, worker: WorkerProcess) -> None:
    assert worker.target is not None
    shutil.rmtree(server.data_dir)
    worker.target.rename(server.data_dir)


def test_backup_incremental_and_restore(place: Path, pool: str, a: MariaDBServer) -> None:
    with Writer(a.connect) as writer:
        full = run(place, "1", jobs.backup_job(place, a.server, "full"), a.server)
        output = full.succeed()
        committed = writer.committed
        inc = run(place, "2", jobs.backup_job(place, a.server, "inc", "full"), a.server)
        second = inc.succeed()
    still = {table: sums for table, sums in a.checksums().items() if table in ("customers", "orders")}
    manifest = load_manifest(jobs.open_place(place), jobs.at("full"))
    assert output["manifest"] == manifest.model_dump(mode="json", exclude={"segments", "index"}, exclude_none=True)
    assert output["manifest_sha256"] == read_manifest(jobs.open_place(place), jobs.at("full"))[1]
    assert output["segments"] == len(manifest.segments) > 5
    assert output["reason"] is None and second["reason"] is None
    assert manifest.name == "name of full" and manifest.chain == "full" and manifest.tool == "mariadb-backup"
    assert second["manifest"]["parent"]["location"] == {"container": jobs.CONTAINER, "id": "full"}
    assert second["manifest"]["chain"] == "full"
    assert second["manifest"]["positions"]["from_lsn"] == output["manifest"]["positions"]["to_lsn"]
    assert not any(key.endswith("intent.json") for key in jobs.keys(jobs.open_place(place)))
    copied = [event for event in full.events() if event.phase == "copy"]
    last = full.events()[-1]
    assert (last.phase, last.done, last.stored) == ("finish", manifest.raw_size, manifest.stored_size)
    assert 0.5 < (copied[0].total or 0) / manifest.raw_size < 1.5
    assert [event.done for event in copied] == sorted(event.done for event in copied)

    b = mariadb.make(place, pool, name="b", number=2)
    restore = run(place, "3", jobs.restore_job(place, "inc"), b.server)
    output = restore.succeed()
    assert output["chain"] == ["full", "inc"]
    assert output["positions"] == second["manifest"]["positions"]
    assert output["raw_size"] == manifest.raw_size + second["manifest"]["raw_size"]
    phases = [event.phase for event in restore.events()]
    assert list(dict.fromkeys(phases)) == ["check", "extract", "prepare", "extract incremental 1", "apply incremental 1", "sync"]
    assert set(output["seconds"]) == set(phases)
    put_in_place(b, restore)
    b.start()
    with b.connect() as connection:
        proven(connection, committed)
    tables = b.checksums()
    assert {table: tables[table] for table in still} == still
    b.kill()


def test_backup_is_repeated_if_the_tool_wrote_a_file_twice(place: Path, a: MariaDBServer) -> None:
    """mariadb-backup 10.11 sometimes does so during DDL, and its own mbstream would omit that file and everything after it."""
    twice, marks = place / "twice.mbs", place / "marks"
    twice.write_bytes(b"".join(mb_file("backup-my.cnf", b"again")))
    marks.mkdir()
    marks.chmod(0o777)
    tool = place / "mariadb-backup"
    real = a.server.version.programs["backup"]
    tool.write_text(
        f'#!/bin/sh\ncase "$*" in *--backup*) ;; *) exec {real} "$@";; esac\n'
        f"for n in 1 2 3; do mkdir {marks}/$n && break; done 2>/dev/null\n"
        f'[ "$n" = 2 ] && exec {real} "$@"\n{real} "$@" && cat {twice}\n'
    )
    tool.chmod(0o755)
    programs = a.server.version.programs | {"backup": tool}
    server = a.server.model_copy(update={"version": a.server.version.model_copy(update={"programs": programs})})
    worker = run(place, "1", jobs.backup_job(place, server, "full"), server)
    worker.succeed()
    messages = [event.message for event in worker.events() if event.message]
    assert any("is started again" in message for message in messages), messages
    assert sorted(path.name for path in marks.iterdir()) == ["1", "2"]
    run(place, "2", jobs.verify_job(place, "full", prepare=True)).succeed()
    (marks / "2").rmdir()
    (marks / "2").touch()  # from now on every time
    code, message = failure(run(place, "3", jobs.backup_job(place, server, "bad"), server))
    assert (code, "'backup-my.cnf' twice" in message) == ("FileTwice", True)
    assert not [key for key in jobs.keys(jobs.open_place(place)) if "/bad/" in key]


def test_verify_with_and_without_prepare(place: Path, a: MariaDBServer) -> None:
    run(place, "1", jobs.backup_job(place, a.server, "full"), a.server).succeed()
    run(place, "2", jobs.backup_job(place, a.server, "inc", "full"), a.server).succeed()
    read = run(place, "3", jobs.verify_job(place, "inc")).succeed()
    assert read["chain"] == ["full", "inc"] and read["files"] > 100 and "prepared" not in read
    assert (read["links"], [link["level"] for link in read["results"]]) == (2, ["content", "content"])
    rehearsal = run(place, "4", jobs.verify_job(place, "inc", prepare=True)).succeed()
    assert rehearsal["prepared"]["chain"] == ["full", "inc"]
    assert [link["level"] for link in rehearsal["results"]] == ["content", "tables"]
    segment = place / "store" / jobs.CONTAINER / "inc" / "00000001"
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    code, message = failure(run(place, "5", jobs.verify_job(place, "inc")))
    assert code == "ArtifactCorrupt" and "segment 1" in message
    container = place / "store" / jobs.CONTAINER
    container.rename(place / "away")  # as where a file system is not mounted: nothing is known of the backup
    assert failure(run(place, "7", jobs.verify_job(place, "inc")))[0] == "StorageError"
    (place / "away").rename(container)
    b = mariadb.make(place, None, name="b")
    restore = run(place, "6", jobs.restore_job(place, "inc"), b.server)
    assert failure(restore)[0] == "ArtifactCorrupt"
    with pytest.raises(Exception, match="unfinished"):
        driver.servers.check_data(b.server, restore.target or place)


def test_encrypted_backup(place: Path, a: MariaDBServer) -> None:
    identity, recipient = new_identity()
    foreign, _ = new_identity()
    run(place, "1", jobs.backup_job(place, a.server, "full", recipients=[recipient]), a.server).succeed()
    b = mariadb.make(place, None, name="b")
    for name, identities in (("2", []), ("3", [foreign])):
        restore = run(place, name, jobs.restore_job(place, "full", identities=identities), b.server)
        assert failure(restore)[0] == "CannotDecrypt"
        assert restore.target is not None and list(restore.target.iterdir()) == []
    run(place, "4", jobs.restore_job(place, "full", identities=[foreign, identity]), b.server).succeed()
    for path in place.rglob("*"):
        if path.is_file() and not path.is_relative_to(a.server.base_dir):
            assert identity.encode() not in path.read_bytes(), path


def test_second_attempt_finds_the_complete_backup(place: Path, a: MariaDBServer) -> None:
    first = run(place, "1", jobs.backup_job(place, a.server, "full"), a.server).succeed()
    a.kill()  # it is not needed any more
    again = run(place, "2", jobs.backup_job(place, a.server, "full"), a.server).succeed()
    assert again["manifest"] == first["manifest"]


def test_unusable_parent_is_refused_or_replaced_by_a_full(place: Path, a: MariaDBServer) -> None:
    run(place, "1", jobs.backup_job(place, a.server, "full"), a.server).succeed()
    code, message = failure(run(place, "2", jobs.backup_job(place, a.server, "inc", "nothing"), a.server))
    assert code == "ArtifactMissing" and "nothing" in message
    other = a.server.model_copy(update={"id": "id-other"})
    code, message = failure(run(place, "3", jobs.backup_job(place, other, "inc", "full"), a.server))
    assert code == "LineageChanged" and "another instance" in message
    one, another = new_identity()[1], new_identity()[1]
    rotated = jobs.backup_job(place, a.server, "rotated", "full", recipients=[one], fall_back_to_full=True)
    output = run(place, "k1", rotated, a.server).succeed()
    assert output["manifest"]["kind"] == "full"
    assert output["reason"].endswith("name of full is not encrypted, but encryption was enabled since.")
    for name, keys, told in (("k2", [another], "encryption.recipients was changed"), ("k3", [], "encryption was disabled")):
        code, message = failure(run(place, name, jobs.backup_job(place, a.server, "inc", "rotated", recipients=keys), a.server))
        assert code == "Conflict" and told in message
    driver.servers.ensure_lineage(a.data_dir, renew=True)
    code, message = failure(run(place, "4", jobs.backup_job(place, a.server, "inc", "full"), a.server))
    assert code == "LineageChanged" and "was replaced" in message
    assert {key.split("/")[1] for key in jobs.keys(jobs.open_place(place))} == {"full", "rotated"}

    output = run(place, "5", jobs.backup_job(place, a.server, "inc", "full", fall_back_to_full=True), a.server).succeed()
    assert output["manifest"]["kind"] == "full" and output["manifest"]["chain"] == "inc"
    assert "was replaced since backup name of full" in output["reason"]


def test_server_that_was_restored_from_a_snapshot(place: Path, a: MariaDBServer) -> None:
    """A snapshot of the machine includes the lineage file, but the LSN reveals that the data is older."""
    driver.servers.ensure_lineage(a.data_dir)
    a.stop()
    subprocess.run(["cp", "-a", a.data_dir, place / "snapshot"], check=True)
    a.start()
    a.sql("CREATE TABLE db1.more SELECT * FROM db1.customers")
    a.checkpoint()
    run(place, "1", jobs.backup_job(place, a.server, "full"), a.server).succeed()
    a.stop()
    shutil.rmtree(a.data_dir)
    (place / "snapshot").rename(a.data_dir)
    a.start()
    code, message = failure(run(place, "2", jobs.backup_job(place, a.server, "inc", "full"), a.server))
    assert code == "LineageChanged" and "older copy" in message
    output = run(place, "3", jobs.backup_job(place, a.server, "inc", "full", fall_back_to_full=True), a.server).succeed()
    assert output["manifest"]["kind"] == "full" and "older copy" in output["reason"]


def test_crash_of_the_server_fails_the_backup_and_leaves_no_orphan(place: Path, a: MariaDBServer) -> None:
    worker = run(place, "1", jobs.backup_job(place, a.server, "full"), a.server)
    worker.wait_for_phase("copy")
    a.kill()
    code, message = failure(worker)
    assert code == "ServerFailed" and "does not answer" in message
    assert jobs.keys(jobs.open_place(place)) == []


def test_backup_too_large_for_the_volume(place: Path, a: MariaDBServer) -> None:
    run(place, "1", jobs.backup_job(place, a.server, "full"), a.server).succeed()
    b = mariadb.make(place, None, name="b")
    worker = run(place, "2", jobs.restore_job(place, "full", volume_bytes=5 * MB), b.server)
    code, message = failure(worker)
    assert code == "TooLarge" and "volume of 5 MiB" in message
    assert worker.target is not None and list(worker.target.iterdir()) == []
    run(place, "3", jobs.restore_job(place, "full", volume_bytes=1 << 30), b.server).succeed()


def test_initialize(place: Path, pool: str) -> None:
    b = mariadb.make(place, pool, name="b")
    driver.servers.configure(b.server)
    worker = run(place, "1", InitializeJob(), b.server)
    worker.succeed()
    put_in_place(b, worker)
    b.start()
    assert b.sql("SELECT 1") == [(1,)]
    b.kill()


@pytest.mark.root
def test_backup_and_restore_as_another_os_user(place: Path, pool: str) -> None:
    with mariadb.running(place, pool, user="nobody") as a:
        a.fill(100)
        run(place, "1", jobs.backup_job(place, a.server, "full"), a.server).succeed()
        b = mariadb.make(place, pool, name="b", number=2, user="nobody")
        worker = run(place, "2", jobs.restore_job(place, "full"), b.server)
        worker.succeed()
        put_in_place(b, worker)
        b.start()
        assert b.checksums() == a.checksums()
        b.kill()


@pytest.mark.root
def test_worker_drops_root_and_files_are_private(place: Path, a: MariaDBServer) -> None:
    worker = run(place, "1", jobs.backup_job(place, a.server, "full"), a.server)
    worker.wait_for_tool("--backup")
    uid = str(a.data_dir.stat().st_uid)
    for pid in (worker.process.pid, *worker.tools()):
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
        assert set(status["Uid"].split()) == {uid}
        assert status["Groups"].split() in ([], [str(jobs.STORE_GID)])
        assert int(status["CapEff"], 16) == 0
    worker.succeed()
    for path in worker.directory.rglob("*"):
        if path != worker.log:
            assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.root
def test_missing_os_user(place: Path, a: MariaDBServer) -> None:
    server = a.server
    worker = WorkerProcess(
        place, "1", jobs.backup_job(place, server, "full"), user=server.user, server=server, os_user="nosuchuser"
    )
    code, message = failure(worker)
    assert code == "ConfigurationError" and "nosuchuser" in message


def test_memory_does_not_grow_with_the_data(place: Path, a: MariaDBServer) -> None:
    a.sql("CREATE TABLE db1.big (a LONGBLOB)")
    for _ in range(8):
        a.sql("INSERT INTO db1.big SELECT RANDOM_BYTES(1024) FROM mysql.seq_1_to_8000")
    job = jobs.backup_job(place, a.server, "full", artifact=Artifact(segment_size=32 * MB, memory=128 * MB))
    worker = run(place, "1", job, a.server)
    worker.succeed()
    assert 30 * MB < worker.wait().max_rss < 300 * MB
    b = mariadb.make(place, None, name="b")
    restore = run(place, "2", jobs.restore_job(place, "full"), b.server)
    restore.succeed()
    assert 30 * MB < restore.wait().max_rss < 300 * MB


def test_invalid_spec_prints_no_secret(place: Path) -> None:
    for text in (
        "",
        "{",
        '{"id": "1", "job": {"kind": "restore", "identities": ["AGE-SECRET-KEY-1"]}, "secret_access_key": "s3cr3t"}',
    ):
        worker = subprocess.run(
            [sys.executable, "-P", "-m", "strongroom.worker"], input=text.encode(), capture_output=True, check=False, cwd=place
        )
        assert worker.returncode == 2
        assert b"the job on stdin is not valid" in worker.stderr
        assert b"s3cr3t" not in worker.stderr and b"AGE-SECRET" not in worker.stderr
    assert list(place.iterdir()) == []


LATE = """
import sys
import strongroom.worker.__main__
from strongroom.worker import _run
become_user = _run.become_user
def become_and_watch(*args):
    become_user(*args)
    sys.addaudithook(lambda event, args: event == "import" and print("late import of", args[0], file=sys.stderr))
_run.become_user = become_and_watch
sys.exit(_run.main())
"""


def test_nothing_is_imported_after_dropping_root(place: Path, a: MariaDBServer) -> None:
    """Perhaps only root can read the modules."""
    identity, recipient = new_identity()
    b = mariadb.make(place, None, name="b")
    todo: list[tuple[Job, Server | None]] = [
        (jobs.backup_job(place, a.server, "full", recipients=[recipient]), a.server),
        (jobs.backup_job(place, a.server, "inc", "full"), a.server),
        (jobs.backup_job(place, a.server, "bad", "nothing"), a.server),
        (jobs.restore_job(place, "inc", identities=[identity]), b.server),
        (jobs.verify_job(place, "inc", prepare=True, identities=[identity]), None),
        (InitializeJob(), b.server),
    ]
    for number, (job, server) in enumerate(todo):
        worker = WorkerProcess(
            place, str(number), job, user=a.server.user, server=server, command=[sys.executable, "-P", "-c", LATE]
        )
        worker.wait()
        assert worker.log.read_text() == ""
        assert (worker.directory / "result.json").is_file()
