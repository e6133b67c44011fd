"""Retention on a real server: what is deleted leaves the store by itself, and the status follows from the store."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from support.service import Service

CONFIG = "[retention]\ngrace = 3\ninterval = 1\n"


def wait_for(find: Callable[[], Any], seconds: float = 150) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := find()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)
    return found


def test_deleted_and_expired_backups_and_the_status(serve: Callable[..., Service]) -> None:
    service = serve(config=CONFIG)
    service.create("orders")
    service.cli("policy", "create", "gold", "--full", "sun 02:00", "--keep-last", "1")
    for name in ("one", "two"):
        service.cli("backup", "create", name, "--instance", "orders")
    ids = {backup["name"]: backup["id"] for backup in service.get("/backups")["backups"]}
    folders = service.data_dir / "store" / "database_backups"

    service.cli("backup", "delete", "one", "--yes")
    assert service.cli_json("backup", "list")[0]["name"] == "two"
    restored = service.cli("restore", "one", "--name", "copy", check=False)  # it is in the store, or the sweep was first
    assert restored.returncode in (0, 3, 4), restored.stderr
    service.kill()
    service.start()
    wait_for(lambda: not (folders / ids["one"]).exists())
    assert service.cli_json("retention", "removals")[0]["reason"].startswith("deleted")

    def status() -> dict[str, Any]:
        return next(one for one in service.cli_json("status") if one["name"] == "orders")

    service.cli("policy", "attach", "gold", "orders")
    assert (status()["state"], status()["conditions"][0]["message"]) == ("unverified", "no backup was verified")
    assert service.cli("status", "--check", check=False).returncode == 1
    service.cli("backup", "create", "three", "--instance", "orders")
    marked = wait_for(lambda: [b for b in service.get("/retention/orders")["retention"]["backups"] if b["sweep_at"]])
    assert [backup["name"] for backup in marked] == ["two"], "the policy is new: it waits a day"
    service.cli("backup", "hold", "two", "--reason", "audit")
    assert "hold" in service.cli("retention", "show", "orders").stdout
    service.cli("backup", "verify", "three")
    assert (status()["state"], status()["restorable"]) == ("protected", 2)
    (folders / ids["two"] / "manifest.json").unlink()
    assert wait_for(lambda: status()["restorable"] == 1) and status()["state"] == "protected"
