"""XtraBackup: what it is asked, what is made of its answers. A double: Debian has no such program."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from strongroom.artifact import Positions
from strongroom.artifact.streams.mbstream import Mbstream
from strongroom.datastores import BackupRequest, Server, Version, get
from strongroom.datastores.mysql.backup.full import require_own_data
from strongroom.errors import ConfigurationError, LineageChanged, ServerFailed, ToolFailed, VersionMismatch
from support import mariadb, mysql, xtrabackup
from support.identity import run_as
from support.mariadb import FileLink, MariaDBServer, backup, scratch

driver = get("mysql")


@dataclass
class Host:
    """A server, and the program for it in ``home``."""

    running: MariaDBServer
    home: Path

    @property
    def version(self) -> Version:
        return self.running.server.version


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    place = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    place.chmod(0o711)
    home = place / "xtrabackup"
    home.mkdir(mode=0o755)
    plain = mysql.version()
    program = xtrabackup.place(home, plain.number, plain.number)
    version = plain.model_copy(update={"programs": {**plain.programs, "xtrabackup": program}})
    try:
        with mariadb.running(place, None, of=version) as running:
            yield Host(running, home)
    finally:
        shutil.rmtree(place)


@pytest.fixture(autouse=True)
def fresh(host: Host) -> None:
    (host.home / "wrong").unlink(missing_ok=True)
    (host.home / "asked").write_text("")


def chain(host: Host, place: Path, length: int) -> list[FileLink]:
    links: list[FileLink] = []
    for number in range(length):
        links.append(backup(host.running, place, f"backup-{number}", links[-1] if links else None))
    return links


def restore(host: Host, place: Path, links: list[FileLink], version: Version | None = None) -> tuple[Path, Positions]:
    user = host.running.server.user
    target, work = scratch(place, "target", user), scratch(place, "work", user)
    restored = run_as(user, _restore, version or host.version, links, target, work)
    return target, restored


def _restore(version: Version, links: list[FileLink], target: Path, work: Path) -> Positions:
    return driver.restores.restore(version, links, target, work, lambda phase: None).positions  # type: ignore[arg-type]


def test_a_chain_is_taken_and_prepared_according_to_the_manual(host: Host, place: Path) -> None:
    links = chain(host, place, 3)
    assert [(link.kind, link.stream) for link in links] == [
        ("full", "mbstream"),
        ("incremental", "mbstream"),
        ("incremental", "mbstream"),
    ]
    assert [(link.positions.from_lsn, link.positions.to_lsn) for link in links] == [(0, 1000), (1000, 2000), (2000, 3000)]
    assert (links[0].positions.binlog_file, links[0].positions.binlog_position) == ("binlog.000002", 157)
    assert links[0].positions.gtid == xtrabackup.GTID
    for number, call in enumerate(xtrabackup.asked(host.home)):
        options = dict(option.partition("=")[::2] for option in call)
        assert call[0].startswith("--defaults-file=")  # it counts in the first place only
        assert {"--backup", "--stream", "--target-dir", "--extra-lsndir", "--parallel"} <= set(options)
        assert options["--stream"] == "xbstream"
        assert options.get("--incremental-lsn") == (str(number * 1000) if number else None)
        assert "password" not in " ".join(call)
        options_of_it = Path(options["--defaults-file"])
        assert options_of_it.stat().st_mode & 0o777 == 0o600
        assert "[xtrabackup]" in options_of_it.read_text()
        assert "protocol" not in options_of_it.read_text()

    (host.home / "asked").write_text("")
    target, positions = restore(host, place, links)
    assert positions.to_lsn == 3000
    calls = [{option.partition("=")[0] for option in call} for call in xtrabackup.asked(host.home)]
    assert ["--apply-log-only" in call for call in calls] == [True, True, False]
    assert ["--incremental-dir" in call for call in calls] == [False, True, True]
    assert (target / "ibdata1").read_text() == "3000"
    assert sorted(path.name for path in target.iterdir()) == ["ibdata1", "mysql", "xtrabackup_checkpoints"]
    driver.servers.check_data(host.running.server, target)


def test_xtrabackup_reads_the_files_of_the_queried_server_only(host: Host, place: Path) -> None:
    server = host.running.server
    host.running.sql(f"CLONE LOCAL DATA DIRECTORY '{server.base_dir / 'tmp' / 'copy'}'")  # which costs the server its lock
    assert chain(host, place, 1)[0].positions.to_lsn == 1000
    with pytest.raises(ConfigurationError, match="does not use"):
        begin_backup(server.model_copy(update={"data_dir": server.base_dir / "tmp" / "copy"}), place)
    with pytest.raises(ConfigurationError, match="does not use"):  # another one, which sees its data at the same place
        require_own_data(server, server.data_dir, "00000000-0000-0000-0000-000000000000")


def begin_backup(server: Server, place: Path) -> None:
    request = BackupRequest(kind="full", parent=None, work_dir=scratch(place, "refused", server.user), parallel=1)
    driver.backups.begin(server, request)


def test_a_server_does_not_start_on_data_for_further_incrementals(host: Host, place: Path) -> None:
    target, _ = restore(host, place, chain(host, place, 1))
    checkpoints = target / "xtrabackup_checkpoints"
    assert "backup_type = full-prepared" in checkpoints.read_text()
    for state in ("log-applied", "full-backuped"):
        checkpoints.write_text(f"backup_type = {state}\nfrom_lsn = 0\nto_lsn = 1000\nlast_lsn = 1009\n")
        with pytest.raises(ServerFailed, match="not prepared"):
            driver.servers.check_data(host.running.server, target)


@pytest.mark.parametrize(("wrong", "said"), [("fail", "exit status 1"), ("mute", "without the message 'completed OK!'")])
def test_exit_status_and_success_message_are_both_required(host: Host, place: Path, wrong: str, said: str) -> None:
    (host.home / "wrong").write_text(wrong)
    with pytest.raises(ToolFailed, match=said):
        chain(host, place, 1)
    (host.home / "wrong").unlink()
    links = [backup(host.running, place, "good")]
    (host.home / "wrong").write_text(wrong)
    with pytest.raises(ToolFailed, match=said):
        restore(host, place, links)
    with pytest.raises(ServerFailed, match="unfinished"):
        driver.servers.check_data(host.running.server, place / "target")


def test_chains_do_not_mix_clones_and_xtrabackup(host: Host, place: Path) -> None:
    by_clone = FileLink(place, "full", Positions(gtid=xtrabackup.GTID), "9.7.4", 1)
    with pytest.raises(LineageChanged, match="without XtraBackup"):
        backup(host.running, place, "inc", by_clone)
    (link,) = chain(host, place, 1)
    without = MariaDBServer(host.running.server.model_copy(update={"version": mysql.version()}))
    with pytest.raises(LineageChanged, match="by XtraBackup"):
        backup(without, place, "other", link)


def test_nothing_is_written_without_a_suitable_xtrabackup(host: Host, place: Path) -> None:
    (link,) = chain(host, place, 1)
    for number, version in ((link.server_version, mysql.version()), ("8.0.36", host.version), ("9.7.99", host.version)):
        with pytest.raises(VersionMismatch, match=f"of MySQL {number}") as refused:
            restore(host, place, [replace(link, server_version=number)], version)
        assert "Install Percona XtraBackup" in (refused.value.remedy or "")
        assert list((place / "target").iterdir()) == []


def test_a_stream_of_trove_describes_itself(host: Host, place: Path) -> None:
    (link,) = chain(host, place, 1)
    walk = Mbstream(driver.capabilities.side_files)
    walk.feed(link.path.read_bytes())
    walk.finish()
    files = {name: bytes(data) for name, data in walk.kept.items()}
    facts = driver.backups.describe(files, {}, Positions())
    assert (facts.kind, facts.server_version, facts.positions) == (
        "full",
        mysql.version().number,
        link.positions.model_copy(update={"server_uuid": None, "binlog_upper": None}),  # the stream does not name them
    )
    other = {**files, "xtrabackup_info": files["xtrabackup_info"].replace(facts.server_version.encode(), b"10.11.6-MariaDB")}
    with pytest.raises(VersionMismatch, match="not of MySQL"):
        driver.backups.describe(other, {}, Positions())
    with pytest.raises(VersionMismatch, match="not of MariaDB"):
        get("mariadb").backups.describe(files, {}, Positions())
