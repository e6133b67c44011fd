"""The main job with Swift as the store; and what it stored is restored by Trove's own commands."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from support.load import Writer, fill, proven
from support.mariadb import make
from support.service import PROJECT, Refused, Service, checksums

BUCKET = "my-trove-backups"
GZIP = '[artifact]\nsegment_size = 4194304\ncodec = "gzip"\n'


@pytest.mark.parametrize(("kind", "codec"), [("swift", "gzip"), ("keystone_swift", "zstd")])
def test_full_incremental_restore_verify_delete(
    request: pytest.FixtureRequest, serve: Callable[..., Service], place: Path, kind: str, codec: str
) -> None:
    swift = request.getfixturevalue(kind)
    account, config = f"AUTH_{place.name}", swift.config(f"AUTH_{place.name}")
    if kind == "keystone_swift":  # each project's backups in its own account
        account, config = f"AUTH_{place.name}_{PROJECT}", swift.config("project", reseller_prefix=f"AUTH_{place.name}_")
    service = serve(config=config + GZIP)
    assert [c["level"] for c in service.cli_json("check") if c["name"] == "store"] == ["ok"]
    one = service.create("mysql1")
    with service.sql(one["id"]) as connection:
        fill(connection)
        before = checksums(connection)
    still = {name: sums for name, sums in before.items() if name in ("db1.customers", "db1.orders")}
    with Writer(lambda: service.sql(one["id"])) as writer:
        full = service.backup("mysql1", "full", swift_container=BUCKET, codec=codec)
        committed = writer.committed
        child = service.backup("mysql1", "inc", swift_container=BUCKET, incremental=1, codec=codec)
    assert (full["kind"], child["kind"], child["parent_id"]) == ("full", "incremental", full["id"])
    ending = {"gzip": "gz", "zstd": "zst"}[codec]
    for backup in (full, child):
        assert backup["locationRef"] == f"{swift.url}/v1/{account}/{BUCKET}/{backup['id']}.xbstream.{ending}"
    assert swift.listing(account, BUCKET) == sorted(f"{b['id']}.xbstream.{ending}" for b in (full, child))

    two = service.create("mysql2", restorePoint={"backupRef": child["id"]})
    with service.sql(two["id"]) as connection:
        after = checksums(connection)
        assert {name: after[name] for name in still} == still
        last = proven(connection, committed)
    service.wait(service.act(f"/backups/{child['id']}/action", {"verify": {"prepare": True}}))
    assert service.get(f"/backups/{child['id']}")["backup"]["verified"]["ok"] is True
    if codec == "gzip":
        by_hand = as_trove_restores(swift, child["locationRef"], place)
        try:
            with by_hand.connect() as connection:
                assert checksums(connection) == after
                assert proven(connection, committed) == last
        finally:
            by_hand.kill()

    with pytest.raises(Refused):
        service.call("DELETE", f"/backups/{full['id']}")
    service.wait(service.call("DELETE", f"/backups/{full['id']}", cascade="true", now="true").headers["Strongroom-Job"])
    assert swift.listing(account, BUCKET) + swift.listing(account, f"{BUCKET}_segments") == []
    everything = b"".join(p.read_bytes() for p in service.data_dir.rglob("*") if p.is_file() and "instances" not in p.parts)
    assert swift.storage(account).password.get_secret_value().encode() not in everything


def as_trove_restores(swift: Any, location: str, place: Path) -> Any:
    """``GET OBJECT | gzip -dc | mbstream -x``, from the parent on that the object's metadata name; then a server on that."""
    recovered = make(place, None, name="recovered")
    shutil.rmtree(recovered.data_dir)
    chain, checksum = [location], None
    headers = {"X-Auth-Token": swift.token()}
    while True:
        told = httpx.head(chain[0], headers=headers).headers
        assert checksum in (None, told["etag"].strip('"'))
        assert int(told["x-object-meta-lsn"]) > 0
        if "x-object-meta-parent-location" not in told:
            break
        checksum = told["x-object-meta-parent-checksum"]
        chain.insert(0, told["x-object-meta-parent-location"])
    assert len(chain) == 2
    for number, url in enumerate(chain):
        assert urlsplit(url).path.endswith(".xbstream.gz")
        target = place / f"by-hand-{number}"
        target.mkdir()
        unpack = f"set -o pipefail; gzip -dc | mbstream -x -C {target}"
        subprocess.run(["bash", "-c", unpack], input=httpx.get(url, headers=headers).content, check=True)
        options = [f"--target-dir={place}/by-hand-0", *([f"--incremental-dir={target}"] if number else [])]
        subprocess.run(["mariadb-backup", "--prepare", *options], check=True, capture_output=True)
    (place / "by-hand-0").rename(recovered.data_dir)
    subprocess.run(["chown", "-R", "mysql:mysql", recovered.data_dir], check=True)
    recovered.start()
    return recovered
