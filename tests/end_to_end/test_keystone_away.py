"""Keystone goes away while a job runs: nobody comes in, and the job neither knows nor cares."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx

from strongroom.catalog import Job, open_catalog
from strongroom.settings import load
from support.keystone import Keystone
from support.service import Service


def test_a_running_job_is_unharmed(serve: Callable[..., Service], keystone: Keystone) -> None:
    keystone.user("strongroom", ("service", "service"))
    keystone.user("alice", ("shop", "member"))
    project = keystone.project("shop")
    service = serve(
        config=f"""\
[identity]
method = "keystone"
auth_url = "{keystone.url}"
username = "strongroom"
password = "strongroompw"
token_cache = 0
"""
    )
    token = keystone.token("alice", "shop")
    service.http = httpx.Client(base_url=f"{service.url}/v1.0/{project}", headers={"X-Auth-Token": token}, timeout=90)
    reply = service.call("POST", "/instances", {"instance": {"name": "db1", "volume": {"size": 1}}})
    job = reply.headers["Strongroom-Job"]
    keystone.stop()
    try:
        refused = service.http.get(f"/jobs/{job}")
        assert refused.status_code == 503
        assert "Keystone" in refused.json()["serviceUnavailable"]["message"]
        assert httpx.get(service.url).status_code == httpx.get(f"{service.url}/healthcheck").status_code == 200
        catalog = open_catalog(load(service={"data_dir": service.data_dir}))
        deadline = time.monotonic() + 90
        status = "queued"
        while status in ("queued", "running") and time.monotonic() < deadline:
            time.sleep(0.2)
            with catalog.read() as session:
                row = session.get(Job, job)
                assert row is not None
                status = row.status
        catalog.close()
        assert status == "succeeded"
    finally:
        keystone.start()
    time.sleep(1.1)
    assert service.job(job)["status"] == "succeeded"
