"""A PostgreSQL with damaged pages: its backup is taken, and whoever looks at it, verifies it or restores it is told."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import psycopg

from support.service import Service

PASSWORD = "pass of user1"


def damage(path: Path, block: int, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(block * 8192 + at)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))


def test_damage_is_reported_and_does_not_prevent_backups(serve: Callable[..., Service]) -> None:
    service = serve()
    pg = service.create(
        "pg1",
        datastore={"type": "postgresql"},
        databases=[{"name": "db1"}],
        users=[{"name": "user1", "password": PASSWORD, "databases": [{"name": "db1"}]}],
    )

    def connect(view: dict[str, list[str]]) -> psycopg.Connection:
        return psycopg.connect(host=view["ip"][0], user="user1", password=PASSWORD, dbname="db1", autocommit=True)

    with connect(pg) as connection:
        connection.execute("CREATE TABLE t AS SELECT id, repeat('x', 500) AS note FROM generate_series(1, 1000) id")
        connection.execute("CREATE TABLE u AS SELECT * FROM t")
        rows = connection.execute("SELECT pg_relation_filepath('t')").fetchall()
    ((path,),) = rows
    service.backup("pg1", "good")
    good = service.get("/backups/good")["backup"]
    assert (good["pages"]["damaged"], good["pages"]["named"]) == (0, [])
    assert good["pages"]["checked"] > 1000

    service.wait(service.act("/instances/pg1/action", {"stop": {}}))
    damage(service.data_dir / "instances" / pg["id"] / "data" / path, 3, 4000)
    service.wait(service.act("/instances/pg1/action", {"start": {}}))
    created = service.cli("backup", "create", "bad", "--instance", "pg1")
    assert f"Warning: the database was damaged when backup bad was taken: 1 damaged page: block 3 of {path}" in created.stderr
    bad = service.get("/backups/bad")["backup"]
    assert (bad["status"], bad["pages"]["damaged"], bad["pages"]["named"]) == ("COMPLETED", 1, [{"path": path, "block": 3}])
    assert f"block 3 of {path}" in service.cli("backup", "show", "bad").stdout.replace("\n", "")

    failed = service.cli("backup", "create", "strict", "--instance", "pg1", "--damaged-pages", "fail", check=False)
    assert failed.returncode and f"the database is damaged: 1 damaged page: block 3 of {path}" in failed.stderr
    strict = service.get("/backups/strict")["backup"]
    assert (strict["status"], strict["pages"]["named"]) == ("FAILED", [{"path": path, "block": 3}])
    assert not list((service.data_dir / "store").glob(f"*/{strict['id']}/manifest.json"))

    # Whatever stands on it has the mark, in lists and in plans as well.
    service.cli("backup", "create", "child", "--parent", "bad", "--instance", "pg1")
    marked = {backup["name"]: backup["damaged_pages"] for backup in service.get("/backups")["backups"]}
    assert marked == {"good": 0, "bad": 1, "strict": 1, "child": 1}
    listed = {line.split()[0]: "damaged pages" in line for line in service.cli("backup", "list").stdout.splitlines()}
    assert (listed["good"], listed["bad"], listed["child"]) == (False, True, True)
    plan = service.cli("restore", "child", "--name", "pg2", "--plan")
    assert f"when backup bad was taken: 1 damaged page: block 3 of {path}" in " ".join(plan.stdout.split())

    refused = service.cli("backup", "verify", "bad", "--prepare", check=False)
    assert refused.returncode and f"public.t in db1: invalid page in block 3 of relation {path}" in refused.stderr
    assert service.get("/backups/bad")["backup"]["verified"]["ok"] is False
    verified = service.cli("backup", "verify", "bad", "--prepare", "--no-start")
    assert f"block 3 of {path}" in verified.stderr
    assert "an earlier, more thorough verification (tables)" in verified.stderr
    state = service.get("/backups/bad")["backup"]["verified"]
    assert (state["ok"], state["level"]) == (False, "tables")
    assert f"block 3 of relation {path}" in state["message"]
    # Said by a manifest whose database sorted text as this host cannot: as if it came from elsewhere.
    path_of_manifest = service.data_dir / "store" / good["container"] / good["id"] / "manifest.json"
    manifest = json.loads(path_of_manifest.read_text())
    assert {"provider": "libc", "locale": "C"} in manifest["collations"]
    manifest["collations"].append({"provider": "libc", "locale": "xx_YY.UTF-8", "version": "2.1"})
    path_of_manifest.chmod(0o600)
    path_of_manifest.write_text(json.dumps(manifest))
    with sqlite3.connect(service.data_dir / "catalog.sqlite") as catalog:  # else it would be refused as an exchanged one
        sha256 = hashlib.sha256(path_of_manifest.read_bytes()).hexdigest()
        catalog.execute("UPDATE backups SET manifest_sha256 = ? WHERE id = ?", (sha256, good["id"]))
    verified = service.cli("backup", "verify", "good", "--prepare")
    assert "Warning: locale xx_YY.UTF-8 of the C library is not on this host" in verified.stderr
    assert "xx_YY" in service.get("/backups/good")["backup"]["verified"]["message"]
    service.cli("backup", "verify", "good")  # looks less closely, so that what the one before found stays
    state = service.get("/backups/good")["backup"]["verified"]
    assert (state["ok"], state["level"]) == (True, "tables")

    # What is not damaged is there.
    restored = service.cli("restore", "bad", "--name", "pg2")
    assert f"block 3 of {path}" in restored.stderr
    with connect(service.get("/instances/pg2")["instance"]) as connection:
        assert connection.execute("SELECT count(*) FROM u").fetchall() == [(1000,)]
