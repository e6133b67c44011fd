"""Quotas and limits on the wire."""

from __future__ import annotations

from typing import Any

import pytest

from support.site import Site, told

QUOTA = "/mgmt/quotas/p"


def test_usage_is_counted_without_a_limit_and_nothing_is_refused(site: Site) -> None:
    site.backup(site.instance())
    quotas = site.get(QUOTA)["quotas"]
    assert quotas == [
        {"resource": "instances", "in_use": 1, "reserved": 0, "limit": -1},
        {"resource": "ram", "in_use": 512, "reserved": 0, "limit": -1},
        {"resource": "volumes", "in_use": 10, "reserved": 0, "limit": -1},
        {"resource": "backups", "in_use": 1, "reserved": 0, "limit": -1},
    ]
    assert site.get("/mgmt/quotas/nobody-knows")["quotas"][0] == {**quotas[0], "in_use": 0}


def test_a_limit_is_set_shown_and_enforced(site: Site) -> None:
    reply = site.ask("PUT", QUOTA, {"quotas": {"instances": 1, "backups": 0}})
    assert (reply.status_code, reply.json()) == (200, {"quotas": {"instances": 1, "backups": 0}})
    assert {q["resource"]: q["limit"] for q in site.get(QUOTA)["quotas"]} == {
        **{"instances": 1, "ram": -1},
        **{"volumes": -1, "backups": 0},
    }
    absolute = {"verb": "ABSOLUTE", "max_instances": 1, "max_ram": -1, "max_volumes": -1, "max_backups": 0}
    assert site.get("/limits")["limits"] == [absolute]
    key = site.instance()
    fault = told(site.ask("POST", "/instances", {"instance": {"name": "two"}}), 413, "overLimit")
    assert fault["message"] == "Quota exceeded for resources: ['instances']."
    assert fault["error_code"] == "QuotaExceeded"
    fault = told(site.ask("POST", "/backups", {"backup": {"name": "b", "instance": key}}), 413, "overLimit")
    assert fault["message"] == "Quota exceeded for resources: ['backups']."
    site.instance("of another project", project="q")
    site.ask("PUT", QUOTA, {"quotas": {"volumes": 10, "ram": 512}})
    fault = told(site.ask("POST", f"/instances/{key}/action", {"resize": {"volume": {"size": 11}}}), 413, "overLimit")
    assert "['volumes']" in fault["message"]
    fault = told(site.ask("POST", f"/instances/{key}/action", {"resize": {"flavorRef": "d2"}}), 413, "overLimit")
    assert "['ram']" in fault["message"]


@pytest.mark.parametrize(
    ("body", "status", "key"),
    [
        ({}, 400, "badRequest"),
        ({"quotas": {}}, 400, "badRequest"),
        ({"quotas": None}, 400, "badRequest"),
        ({"quotas": {"backups": "9"}}, 400, "badRequest"),
        ({"quotas": {"backups": None}}, 400, "badRequest"),
        ({"quotas": {"backups": -2}}, 400, "badRequest"),
        ({"quotas": {"backups": 1.5}}, 400, "badRequest"),
        ({"quotas": {"backups": True}}, 400, "badRequest"),
        ({"quotas": {"backups": 10**30}}, 400, "badRequest"),
        ({"quotas": {"cpus": 1}}, 404, "itemNotFound"),
        ({"quotas": {"backups": 1, "cpus": 1}}, 404, "itemNotFound"),
    ],
)
def test_invalid_limits_are_refused(site: Site, body: Any, status: int, key: str) -> None:
    told(site.ask("PUT", QUOTA, body), status, key)
    assert {q["limit"] for q in site.get(QUOTA)["quotas"]} == {-1}
