"""A backup of MySQL by Trove: read everywhere, restored where there is an XtraBackup of its series.

The stream is one of a server that was stopped in good order, so that the double of XtraBackup has nothing to do but to say that
it is prepared: what is restored is real, and a real server starts on it.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support import mysql_programs, xtrabackup
from support.foreign import side_car
from support.load import fill
from support.own_mysql import OwnMySQL
from support.service import Failed, Service, checksums

LSN = 19_000_000
LEFT_OUT = ("auto.cnf", "mysqld-auto.cnf", "ib_buffer_pool")


def trove(own: OwnMySQL, container: Path, server_version: str) -> Path:
    """What ``xtrabackup --backup --stream=xbstream | gzip`` leaves of a server at rest."""
    (own.data / "xtrabackup_checkpoints").write_text(
        f"backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = {LSN}\nlast_lsn = {LSN}\nflushed_lsn = {LSN}\n"
    )
    (own.data / "xtrabackup_info").write_text(
        f"tool_name = xtrabackup\ntool_version = {server_version}\nserver_version = {server_version}\n"
        "binlog_pos = filename 'binlog.000002', position '158'\nformat = xbstream\ncompressed = N\nencrypted = N\n"
    )
    (own.data / "backup-my.cnf").write_text("[mysqld]\n")
    paths = [path for path in own.data.rglob("*") if path.is_file()]
    names = [str(path.relative_to(own.data)) for path in paths if path.suffix != ".pem" and path.name not in LEFT_OUT]
    target = container / "11111111-2222-4333-8444-555555555555.xbstream.gz"
    target.parent.mkdir(parents=True)
    with target.open("wb") as out:
        pack = subprocess.Popen(
            ["mbstream", "-c", *(name for name in names if not name.startswith(("binlog.", "#innodb_temp")))],
            cwd=own.data,
            stdout=subprocess.PIPE,
        )
        subprocess.run(["gzip", "-1"], stdin=pack.stdout, stdout=out, check=True)
        assert pack.wait() == 0
    side_car(target).write_text(json.dumps({"datastore": "mysql", "datastore-version": "9.7", "lsn": str(LSN)}))
    for path in (target, side_car(target)):
        path.chmod(0o644)
    container.chmod(0o755)
    return target


@pytest.mark.root
def test_backups_of_trove_need_xtrabackup_and_are_refused_without_it(serve: Callable[..., Service], place: Path) -> None:
    tool = place / "tool"
    tool.mkdir(mode=0o755)
    version = mysql_programs.version()
    places = [str(mysql_programs.programs()), str(tool)]
    service = serve(config=f"[datastores]\nmysql = {json.dumps(places)}\n")
    own = OwnMySQL(place)
    with own.connect() as connection:
        fill(connection, 300)
        expected = checksums(connection)
    own.end()
    path = trove(own, service.data_dir / "store" / "my-trove-backups", version.number)

    # It is read and described everywhere
    options = ["--datastore", "mysql", "--name", "trove"]
    view = service.cli_json("backup", "import", f"my-trove-backups/{path.name}", *options)
    view = service.get(f"/backups/{view['id']}")["backup"]
    assert (view["status"], view["kind"], view["datastore"]["type"]) == ("RESTORED", "full", "mysql")
    assert (view["positions"]["to_lsn"], view["positions"]["binlog_file"]) == (LSN, "binlog.000002")

    # Without the program that can prepare it, nothing is made of it
    with pytest.raises(Failed) as failed:
        service.create("refused", restorePoint={"backupRef": view["id"]})
    fault = failed.value.job["fault"]
    assert fault["code"] == "VersionMismatch"
    assert "was taken by XtraBackup" in fault["message"]
    assert f"Install Percona XtraBackup {version.series}" in fault["remedy"]

    # With it the data is there
    xtrabackup.place(tool, version.number, version.number)
    made = service.create("restored", restorePoint={"backupRef": view["id"]})
    with service.sql(made["id"]) as connection:
        assert checksums(connection) == expected
    assert [["--prepare" in call, "--apply-log-only" in call] for call in xtrabackup.asked(tool)] == [[True, False]]
