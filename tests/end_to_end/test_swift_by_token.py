"""Swift is used with the token of whoever asks: in the account of their project, as long as the token is good."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from strongroom.catalog import open_catalog
from strongroom.errors import StorageDenied
from strongroom.flows import open_site
from strongroom.sections import Storage
from strongroom.settings import load
from strongroom.storage import open_store
from strongroom.worker.spec import StorageSpec
from support.keystone import Keystone
from support.load import fill
from support.proxy import Proxy
from support.service import Service, checksums
from support.swift import Swift

ROWS = 20_000
RATE = 2_000_000
BOX = "database_backups"


class Site:
    """A service for a project of its own, with a wire to Swift, and alice who works there."""

    def __init__(self, serve: Callable[..., Service], keystone: Keystone, swift: Swift, wire: Proxy) -> None:
        self.keystone, self.swift, self.wire = keystone, swift, wire
        self.name = f"shop-{uuid4().hex}"
        keystone.user("strongroom", ("service", "service"))
        keystone.user("alice", (self.name, "member"))
        self.project = keystone.project(self.name)
        region = self.name
        keystone.endpoint("object-store", f"{wire.url}/v1/AUTH_$(project_id)s", region)
        self.tokens: list[str] = []
        self.service = serve(
            config=f"""\
[identity]
method = "keystone"
auth_url = "{keystone.url}"
username = "strongroom"
password = "strongroompw"
[storage]
driver = "swift"
auth = "user"
auth_url = "{keystone.url}"
region = "{region}"
retries = 2
timeout = 20
[artifact]
segment_size = 1048576
threads = 2
"""
        )
        self.log_in()
        self.instance = self.service.create("mysql1")

    def log_in(self) -> str:
        """Alice has a new token; the one she had before."""
        token = self.keystone.token("alice", self.name)
        self.service.http = httpx.Client(
            base_url=f"{self.service.url}/v1.0/{self.project}", headers={"X-Auth-Token": token}, timeout=90
        )
        self.tokens.append(token)
        return self.tokens[-2] if len(self.tokens) > 1 else ""

    def begin(self, rows: int) -> str:
        """A backup whose bytes are on their way, and stand still, when this returns."""
        with self.service.sql(self.instance["id"]) as connection:
            fill(connection, rows)
        before = self.wire.carried["up"]
        self.wire.rate = RATE
        answer = self.service.call("POST", "/backups", {"backup": {"name": "full", "instance": "mysql1"}})
        job = answer.headers["Strongroom-Job"]
        while self.wire.carried["up"] - before < 2_000_000:
            assert self.service.job(job)["status"] in ("queued", "running")
            time.sleep(0.02)
        self.wire.stall()
        return job

    def stored(self) -> list[str]:
        """What is in Swift, as alice sees it."""
        headers = {"X-Auth-Token": self.keystone.token("alice", self.name)}
        names: list[str] = []
        for container in (BOX, f"{BOX}_segments"):
            reply = httpx.get(f"{self.swift.url}/v1/AUTH_{self.project}/{container}", headers=headers, timeout=30)
            assert reply.status_code in (200, 204, 404)
            names += reply.text.split() if reply.status_code == 200 else []
        return names

    def delete(self, backup: str) -> None:
        self.service.wait(self.service.call("DELETE", f"/backups/{backup}").headers["Strongroom-Job"])

    def written(self) -> bytes:
        """All that the service keeps and says, but not the databases."""
        files = [path for path in self.service.data_dir.rglob("*") if path.is_file() and "instances" not in path.parts]
        return b"".join(path.read_bytes() for path in [*files, self.service.log])


@pytest.fixture
def wire(keystone_swift: Swift) -> Iterator[Proxy]:
    wire = Proxy(keystone_swift.port)
    yield wire
    wire.close()


@pytest.fixture
def site(serve: Callable[..., Service], keystone: Keystone, keystone_swift: Swift, wire: Proxy) -> Iterator[Site]:
    site = Site(serve, keystone, keystone_swift, wire)
    yield site
    for token in site.tokens:
        assert token.encode() not in site.written()


def test_credentials_sent_to_a_host_access_only_the_project(place: Path, keystone: Keystone, keystone_swift: Swift) -> None:
    ours, theirs = f"ours-{uuid4().hex}", f"theirs-{uuid4().hex}"
    keystone.user("alice", (ours, "member"))
    keystone.user("bob", (theirs, "member"))
    region = uuid4().hex
    keystone.endpoint("object-store", f"{keystone_swift.url}/v1/AUTH_$(project_id)s", region)
    storage = {"driver": "swift", "auth": "user", "auth_url": keystone.url, "region": region, "retries": 0}
    service = {"username": "strongroom", "password": "password-of-the-service"}
    settings = load(service={"data_dir": place}, storage={**storage, **service})
    control = open_site(settings, open_catalog(settings), open_store(settings.storage, place), {})

    def sent(user: str, project: str) -> Storage:
        """What crosses the wire to the agent for a job of the user."""
        token = SecretStr(keystone.token(user, project))
        spec = control.on_behalf(token).stores.spec_of_project(keystone.project(project)).model_dump_json()
        assert "password-of-the-service" not in spec
        return StorageSpec.model_validate_json(spec)

    alice, bob = sent("alice", ours), sent("bob", theirs)
    for spec in (alice, bob):
        open_store(spec).put("c/b/00000000", b"data")
    assert open_store(alice).get("c/b/00000000") == b"data"
    foreign = open_store(alice.model_copy(update={"account": bob.account}))
    with pytest.raises(StorageDenied):
        foreign.get("c/b/00000000")
    with pytest.raises(StorageDenied):
        foreign.delete(["c/b/00000000"])
    assert open_store(bob).get("c/b/00000000") == b"data"
    control.catalog.close()


def test_backup_restore_verify_delete(site: Site) -> None:
    with site.service.sql(site.instance["id"]) as connection:
        fill(connection)
        data = checksums(connection)
    full = site.service.backup("mysql1", "full")
    child = site.service.backup("mysql1", "inc", incremental=1)
    assert child["parent_id"] == full["id"]
    assert full["locationRef"] == f"{site.wire.url}/v1/AUTH_{site.project}/{BOX}/{full['id']}.xbstream.zst"
    assert {f"{full['id']}.xbstream.zst", f"{child['id']}.xbstream.zst"} <= set(site.stored())
    site.log_in()
    two = site.service.create("mysql2", restorePoint={"backupRef": child["id"]})
    with site.service.sql(two["id"]) as connection:
        assert checksums(connection) == data
    site.service.wait(site.service.act(f"/backups/{child['id']}/action", {"verify": {}}))
    site.delete(child["id"])
    site.delete(full["id"])
    assert site.stored() == []


def test_token_that_expires_before_the_backup_ends(site: Site) -> None:
    job = site.begin(ROWS)
    site.keystone.revoke(site.log_in())
    site.swift.forget_tokens()
    site.wire.rate = None
    site.wire.go_on()
    view = site.service.wait(job, expect="failed")
    assert view["fault"]["code"] == "StorageDenied"
    assert "the requesting user's token is no longer valid" in view["fault"]["message"]
    assert 'storage.auth = "service"' in view["fault"]["remedy"]
    backup = site.service.get(f"/backups/{view['backup_id']}")["backup"]
    assert backup["status"] == "FAILED"
    assert view["output"]["left"] == f"{BOX}/{backup['id']}"
    assert any(backup["id"] in name for name in site.stored())
    site.delete(backup["id"])
    assert site.stored() == []


def test_service_forgets_tokens_when_it_is_restarted(site: Site) -> None:
    job = site.begin(ROWS)
    site.service.restart()
    site.wire.rate = None
    site.wire.go_on()
    view = site.service.wait(job, expect="failed")
    assert view["fault"]["code"] == "StorageDenied"
    assert "the service keeps tokens only in memory and was restarted" in view["fault"]["message"]
    backup = site.service.get(f"/backups/{view['backup_id']}")["backup"]
    assert backup["status"] == "FAILED"
    site.delete(backup["id"])
    assert site.stored() == []
