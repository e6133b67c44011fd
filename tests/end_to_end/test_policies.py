"""A policy on a real server, driven by the command line: backups are taken without any further request."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from support.service import Service


def wait_for(find: Callable[[], Any], seconds: float = 150) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := find()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)
    return found


def test_a_new_instance_gets_a_full_and_then_incrementals(serve: Callable[..., Service]) -> None:
    service = serve(config='[policies.base]\nfull = "daily 02:00"\nkeep_within = "7d"\n')
    assert service.cli_json("policy", "show", "base")["declared"] is True

    def completed(kind: str) -> list[dict[str, Any]]:
        return [b for b in service.get("/backups")["backups"] if (b["status"], b["kind"]) == ("COMPLETED", kind)]

    created = service.cli(
        *("policy", "create", "gold", "--full", "sun 02:00", "--incremental", "* * * * *", "--spread", "0s"),
        *("--time-zone", "Europe/Vienna", "--keep-last", "50"),
    )
    assert "Next runs" in created.stdout
    assert "It does nothing yet" in created.stderr
    service.cli("policy", "attach", "gold", "--whole-project")
    service.create("orders")
    (full,) = wait_for(lambda: completed("full"))
    assert full["name"].startswith("orders-20")
    service.kill()  # what is due meanwhile is made up for, or recorded
    service.start()
    incremental = wait_for(lambda: completed("incremental"))[0]
    assert incremental["parent_id"] == full["id"]
    (schedule,) = service.cli_json("schedule", "list")
    assert (schedule["database_name"], schedule["policy_name"]) == ("orders", "gold")
    assert schedule["last_run"]["kind"] == "incremental"
    table = service.cli("schedule", "list", "--policy", "gold").stdout
    assert "orders" in table and "Next run" in table

    service.cli("policy", "pause", "gold", "--reason", "the storage is moved", "--until", "12h")
    assert "the storage is moved" in service.cli("policy", "show", "gold").stdout
    refused = service.cli("policy", "delete", "gold", check=False)
    assert (refused.returncode, "attached to the project" in refused.stderr) == (4, True)
    wait_for(lambda: not [job for job in service.get("/jobs")["jobs"] if job["finished"] is None])
    service.cli("policy", "run", "gold", "--instance", "orders", "--full")
    assert len(completed("full")) == 2
    service.cli("policy", "detach", "gold", "--whole-project")
    assert service.cli_json("schedule", "list") == []
    service.cli("policy", "delete", "gold")
    assert [policy["name"] for policy in service.cli_json("policy", "list")] == ["base"]
