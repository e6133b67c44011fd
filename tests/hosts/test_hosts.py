"""Several hosts and a control plane on PostgreSQL: the main job across them, who goes where, joining and leaving."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.hosts import CONTROL, Hosts
from support.load import Writer, fill, proven
from support.own_postgresql import OwnPostgreSQL
from support.service import Refused, checksums

pytestmark = pytest.mark.root
PASSWORD = "password-of-the-database"


def test_the_main_job_over_two_hosts(hosts: Hosts) -> None:
    service = hosts.service
    one = service.create("main1", databases=[{"name": "db1"}, {"name": "db2"}], host="h1")
    assert (one["host"], one["status"], one["ip"], one["port"]) == ("h1", "ACTIVE", ["10.77.1.129"], 3306)
    with hosts.sql("main1") as connection:
        fill(connection)
        before = checksums(connection)
    still = {name: sums for name, sums in before.items() if name in ("db1.customers", "db1.orders")}
    assert len(still) == 2
    with Writer(lambda: hosts.sql("main1")) as writer:
        service.backup("main1", "full")
        committed = writer.committed
        child = service.backup("main1", "inc", incremental=1)
    two = service.create("main2", restorePoint={"backupRef": child["id"]}, host="h2")
    assert (two["host"], two["ip"]) == ("h2", ["10.77.2.129"])
    with hosts.sql("main2") as connection:
        after = checksums(connection)
        assert {name: after[name] for name in still} == still
        proven(connection, committed)
    service.wait(service.act("/instances/main1/action", {"restore": {"backupRef": child["id"]}}))
    with hosts.sql("main1") as connection:
        after = checksums(connection)
        assert {name: after[name] for name in still} == still
    hosts["h1"].run(sys.executable, "-c", "import socket; socket.create_connection(('10.77.2.129', 3306), 5).close()")
    for name in ("main1", "main2"):
        service.wait(service.call("DELETE", f"/instances/{name}").headers["Strongroom-Job"])


def test_a_new_instance_is_placed_on_the_least_used_or_the_named_host(hosts: Hosts) -> None:
    service = hosts.service
    placed = [service.create(f"p{n}", wait=False)["host"] for n in (1, 2)]
    assert sorted(placed) == ["h1", "h2"]
    with pytest.raises(Refused, match="host h9 cannot be found") as refused:
        service.create("p3", host="h9")
    assert refused.value.status == 404
    with pytest.raises(Refused) as refused:
        service.create("p3", datastore={"type": "mariadb", "version": "1.0"})
    assert refused.value.status == 400
    for n in (1, 2):
        service.wait(service.call("DELETE", f"/instances/p{n}").headers["Strongroom-Job"])


def test_a_host_needs_an_unused_token_to_join(hosts: Hosts, tmp_path: Path) -> None:
    used = hosts["h1"].token_file
    assert agent(hosts, tmp_path / "a", used) == (1, "may not join: its token is unknown, used or expired")
    (forged := tmp_path / "forged").write_text("h1:" + "A" * 43)
    assert agent(hosts, tmp_path / "b", forged) == (1, "may not join: its token is unknown, used or expired")
    (broken := tmp_path / "broken").write_text("secret-secret")
    assert agent(hosts, tmp_path / "c", broken) == (2, "this is not a token of a host")
    assert agent(hosts, tmp_path / "d", None) == (1, "this host has not joined a control plane")
    assert hosts.view("h1")["status"] == "up"


def agent(hosts: Hosts, data_dir: Path, token: Path | None) -> tuple[int, str]:
    """The exit code of an agent on h2 that is refused, and the relevant part of its message."""
    told = ["--control-plane", hosts.service.url, "--token-file", str(token)] if token else []
    data_dir.mkdir()
    for path in (data_dir.parent, *data_dir.parent.parents):
        if path.is_relative_to("/tmp/pytest-of-root"):
            path.chmod(0o711)
    argv = [sys.executable, "-m", "strongroom", "agent", "--data-dir", str(data_dir), "--port", "9999", *told]
    done = hosts["h2"].run(*argv, check=False)
    error = next(line for line in done.stderr.splitlines() if line.startswith("Error: "))
    return done.returncode, error.removeprefix("Error: ").removeprefix("host h1 ")


def test_a_host_without_its_keys_joins_again_and_an_unused_one_is_removed(hosts: Hosts) -> None:
    cli = hosts.service.cli
    (hosts.place / "t").unlink(missing_ok=True)
    hosts["h2"].stop_agent()
    (hosts["h2"].data_dir / "agent" / "control-plane" / "key.pem").unlink()
    cli("host", "add", "h2", "--token-file", str(hosts.place / "t"))
    hosts["h2"].start_agent("--control-plane", hosts.service.url, "--token-file", str(hosts.place / "t"))
    hosts.wait_status("h2", "up")
    hosts["h2"].kill_agent()
    # The token in the unit file stays: it was used by this host, and is ignored.
    hosts["h2"].start_agent("--control-plane", hosts.service.url, "--token-file", str(hosts.place / "t"))
    hosts.wait_status("h2", "up")
    assert len(hosts.service.cli("host", "add", "h3").stdout.strip()) > 43
    assert hosts.view("h3")["status"] == "new"
    hosts.service.create("stays", host="h1")
    with pytest.raises(Refused, match="host h1 has instances: stays") as refused:
        hosts.service.call("DELETE", "/hosts/h1")
    assert refused.value.status == 409
    with pytest.raises(Refused, match="h3 has not joined"):
        hosts.service.create("nowhere", host="h3")
    cli("host", "remove", "h3", "--yes")
    assert [host["name"] for host in hosts.service.cli_json("host", "list")] == ["h1", "h2"]
    hosts.service.wait(hosts.service.call("DELETE", "/instances/stays").headers["Strongroom-Job"])


def test_the_password_of_the_database_appears_nowhere(hosts: Hosts, database: OwnPostgreSQL) -> None:
    pid = hosts.service.process.pid if hosts.service.process else 0
    assert "strongroom" in database.sql("SELECT DISTINCT usename FROM pg_stat_activity", "strongroom").split()
    assert PASSWORD not in Path(f"/proc/{pid}/cmdline").read_text() + Path(f"/proc/{pid}/environ").read_text()
    for url, why in (
        (f"postgresql://strongroom:{PASSWORD}@db/strongroom", "a password must not be given on the command line"),
        ("postgresql://strongroom@127.0.0.1:1/strongroom", "cannot open the catalog"),
        ("mysql://strongroom@db/strongroom", "must name a database of PostgreSQL"),
    ):
        argv = [
            sys.executable,
            "-m",
            "strongroom",
            "serve",
            "--port",
            "0",
            "--data-dir",
            str(hosts.place / "x"),
            "--database",
            url,
        ]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode != 0
        assert why in done.stderr
        assert PASSWORD not in done.stdout + done.stderr
    for log in (hosts.service.log, hosts["h1"].log):
        assert PASSWORD not in log.read_text()


def test_a_second_service_on_the_same_database_is_refused(hosts: Hosts) -> None:
    argv = [*hosts.service.prefix, sys.executable, "-m", "strongroom", "serve", "--config", str(hosts.service.config)]
    argv += ["--host", CONTROL, "--port", "0", "--data-dir", str(hosts.place / "y"), *hosts.service.flags[2:]]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **hosts.service.environment}
    )
    assert (done.returncode, "another strongroom serve is running on the same database" in done.stderr) == (1, True)
