"""Nothing is lost unasked: questions, plans, protection, names, and what a restore says before and after."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable

import pytest
from typer.testing import Result

from support.canned import BACKUP, DELETE_PLAN, DONE, INSTANCE, PLAN, Canned

Run = Callable[..., Result]
STARTED = {"Strongroom-Job": "j1"}
OTHER = {**BACKUP, "id": "99999999-8a5d-4b52-9b0d-0f5b8f3c2a11", "name": "sunday", "created": "2026-11-20T07:00:00"}
WORDS = [
    "instance delete mysql1",
    "instance discard-old mysql1",
    "instance activate mysql1",
    "cluster delete shop",
    "cluster discard-old shop",
    "cluster activate shop",
    "cluster recover shop --force",
    "cluster restore shop --backup monday",
    "backup delete monday",
    "backup delete monday --cascade",
    "restore monday --in-place mysql1",
    "db delete mysql1 shop",
    "user delete mysql1 u",
    "host remove db1 --force",
]


@pytest.fixture
def service(canned: Canned) -> Canned:
    canned.on_job(DONE)
    canned.on("GET", "/instances/mysql1", (200, {"instance": INSTANCE}))
    canned.on("GET", "/instances/i1", (200, {"instance": INSTANCE}))
    canned.on("GET", "/instances/mysql1/activation", (200, {"activation": {"isolated": True, "enables": []}}))
    canned.on("GET", "/clusters/shop", (200, {"cluster": {"instances": []}}))
    plan = {"backup": "b", "backup_name": "monday", "data_bytes": 1, "chain": ["b"], "taken": None, "why": "w", "nodes": []}
    canned.on("GET", "/clusters/shop/restore/monday", (200, {"plan": {**plan, "old_data": "is kept"}}))
    canned.on("GET", "/hosts/db1", (200, {"host": {"instances": 2}}))
    for ref in ("monday", BACKUP["id"]):
        canned.on("GET", f"/backups/{ref}", (200, {"backup": BACKUP}))
    canned.on("GET", f"/backups/{BACKUP['id']}/restore-plan", (200, {"plan": PLAN}))
    for noun in ("instance", "cluster", "backup"):
        ref = {"instance": "mysql1", "cluster": "shop", "backup": "monday"}[noun]
        canned.on("GET", f"/{noun}s/{ref}/delete-plan", (200, {"plan": {**DELETE_PLAN, "noun": noun, "name": ref}}))
    return canned


@pytest.mark.parametrize("words", WORDS)
def test_deletions_need_yes_without_a_terminal(run: Run, service: Canned, words: str) -> None:
    refused = run(*shlex.split(words))
    assert refused.exit_code == 2, refused.stderr
    assert "confirmation required" in refused.stderr and "--yes" in refused.stderr
    assert {verb for verb, *_ in service.asked} <= {"GET"}


def test_the_question_lists_deleted_and_remaining_backups(run: Run, service: Canned) -> None:
    asked = run("backup", "delete", "monday").stderr
    assert "This deletes backup monday (4b6f0e0a), 100.0 MiB in the store:\n  monday (full, 100.0 MiB)" in asked
    assert "2 backups of the same instance can be restored and remain; the newest is tuesday (" in asked
    assert "The newest verified one is sunday (" in asked
    data = {**DELETE_PLAN, "noun": "instance", "name": "mysql1", "bytes": 2**30, "old_bytes": 2**20, "newest_verified": None}
    service.on("GET", "/instances/mysql1/delete-plan", (200, {"plan": {**data, "jobs": [{"id": "j0", "kind": "backup"}]}}))
    asked = run("instance", "delete", "mysql1").stderr
    assert "deletes 1.0 GiB of data, and 1.0 MiB of previous data that restores kept." in asked
    assert "It cancels running jobs: backup j0." in asked
    assert "None of them was ever verified: `strongroom backup verify b2 --prepare`." in asked
    none = {**data, "newest": None, "kept": 0}
    service.on("GET", "/instances/mysql1/delete-plan", (200, {"plan": none}))
    assert "It has no backup that can be restored." in run("instance", "delete", "mysql1").stderr
    service.on("GET", "/instances/mysql1/delete-plan", (200, {"plan": {**data, "adopted": True}}))
    assert "is adopted: only its record is deleted" in run("instance", "delete", "mysql1").stderr


def test_confirmations_for_clusters_work_without_hosts(run: Run, service: Canned) -> None:
    node = {"node": "node1", "old_bytes": 2**20}
    service.on("GET", "/clusters/shop", (200, {"cluster": {"instances": [node, {**node, "node": "node2", "host": "db2"}]}}))
    assert run("cluster", "discard-old", "shop").exit_code == 2
    plan = {"backup": "b", "backup_name": "monday", "data_bytes": 1, "chain": ["b"], "taken": None, "why": "w", "old_data": ""}
    nodes = [{"node": "node1", "host": None, "does": "bootstraps", "data": "from the backup"}]
    service.on("GET", "/clusters/shop/restore/monday", (200, {"plan": {**plan, "nodes": nodes}}))
    asked = run("cluster", "restore", "shop", "--backup", "monday")
    assert asked.exit_code == 2
    assert "  node1 bootstraps, with data from the backup;" in asked.stderr


def test_plan_deletes_nothing_and_fails_if_the_deletion_would_be_refused(run: Run, service: Canned) -> None:
    shown = run("backup", "delete", "monday", "--cascade", "--plan")
    assert shown.exit_code == 0
    assert "monday (full, 100.0 MiB)" in shown.stdout
    assert service.asked[-1][2] == "cascade=true"
    assert json.loads(run("cluster", "delete", "shop", "--plan", "-f", "json").stdout)["noun"] == "cluster"
    refusal = {"message": "instance mysql1 is protected from deletion", "remedy": "Unprotect it."}
    plan = {**DELETE_PLAN, "noun": "instance", "allowed": False, "refused": [refusal]}
    service.on("GET", "/instances/mysql1/delete-plan", (200, {"plan": plan}))
    shown = run("instance", "delete", "mysql1", "--plan", "--yes")
    assert shown.exit_code == 1
    assert "is protected from deletion" in shown.stdout
    refused = run("instance", "delete", "mysql1")
    assert (refused.exit_code, refused.stderr) == (4, "Error: instance mysql1 is protected from deletion\nUnprotect it.\n")
    assert {verb for verb, *_ in service.asked} == {"GET"}


@pytest.mark.parametrize(("noun", "ref"), [("instance", "mysql1"), ("backup", "monday"), ("cluster", "shop")])
def test_resources_are_protected_and_renamed(run: Run, service: Canned, noun: str, ref: str) -> None:
    service.on("PATCH", f"/{noun}s/{ref}", (202, None))
    for words, change in (
        (["protect", ref], {"protected": True}),
        (["unprotect", ref], {"protected": False}),
        (["rename", ref, "new.name"], {"name": "new.name"}),
    ):
        assert run(noun, *words).exit_code == 0
        assert service.bodies("PATCH")[-1] == {noun: change}
    assert run(noun, "rename", ref, ref).exit_code == 4
    assert run(noun, "rename", ref, "bad name!").exit_code == 2
    assert len(service.bodies("PATCH")) == 3


@pytest.mark.parametrize(
    "words",
    [
        "instance create mysql1",
        "instance adopt mysql1 --socket /run/s",
        "restore monday --name mysql1",
        "cluster create shop",
        "cluster adopt shop --node host=db1,socket=/run/s",
        "backup create monday -i mysql1",
        "backup import c/o --name monday",
        "cluster backup shop --name monday",
    ],
)
def test_existing_name_is_refused(run: Run, service: Canned, words: str) -> None:
    refused = run(*shlex.split(words))
    assert refused.exit_code == 4, refused.stderr
    assert "already" in refused.stderr and "--allow-same-name" in refused.stderr
    bad = run(*[{"mysql1": "bad name!", "shop": "-x;", "monday": "a/b"}.get(word, word) for word in shlex.split(words)])
    assert bad.exit_code != 0
    assert service.bodies("POST") == []


class TestRestore:
    def test_backup_of_another_instance_is_reported(self, run: Run, service: Canned) -> None:
        older = {**BACKUP, "instance_id": "00000000-old"}
        service.on("GET", "/backups/monday", (200, {"backup": older}))
        refused = run("restore", "monday", "--in-place", "mysql1")
        assert refused.exit_code == 2
        assert "Warning: backup monday was taken from another instance, mysql1 (00000000, an earlier instance" in refused.stderr
        service.on("POST", "/instances/i1/action", (202, None, STARTED))
        done = run("restore", "monday", "--in-place", "mysql1", "--yes", "--quiet")
        assert done.exit_code == 0, done.stderr
        assert "taken from another instance" in done.stderr, "also those who do not want remarks are warned"

    def test_failure_names_remains_and_other_restorable_backups(self, run: Run, service: Canned) -> None:
        fault = {"code": "ArtifactCorrupt", "message": "a segment is damaged", "remedy": "Restore from another backup."}
        service.on_job({"kind": "create", "status": "failed", "finished": "2026-11-21T07:00:01Z", "fault": fault})
        service.on("POST", "/instances", (200, {"instance": {**INSTANCE, "id": "i2"}}, STARTED))
        service.on("GET", "/instances/i2", (200, {"instance": {**INSTANCE, "id": "i2", "status": "ERROR"}}))
        unverified = {**OTHER, "name": "tuesday", "verified": None}
        service.on("GET", "/backups", (200, {"backups": [BACKUP, unverified, OTHER, {**OTHER, "restorable": False}]}))
        failed = run("restore", "monday", "--name", "copy")
        assert failed.exit_code == 1
        assert "Error: a segment is damaged\nRestore from another backup.\n" in failed.stderr
        assert "Instance copy (i2) remains in ERROR; `strongroom instance delete i2` removes it." in failed.stderr
        good = failed.stderr.partition("Other restorable backups of mysql1: ")[2]
        assert good.startswith("sunday (99999999, ") and good.index("verified") < good.index("tuesday (99999999, ")
        assert "never verified" in good
