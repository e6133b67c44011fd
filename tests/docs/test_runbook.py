"""Every section of the runbook is followed, command by command, after the thing that it is about was broken for real."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import mariadb_client, namespaces, processes
from support.agents import until
from support.cluster import Shop, cluster_service
from support.hosts import Hosts
from support.pages import ROOT, run_script, script, sections
from support.service import Service, checksums

TEXT = (ROOT / "docs" / "runbook.md").read_text()
SECTIONS = sections(TEXT)
TESTED = {
    "The data is wrong",
    "A database is damaged",
    "A cluster is down",
    "A host is lost",
    "The control plane is lost",
    "The store is unreachable or lost",
    "The key is lost",
}


def test_every_section_has_its_test_and_every_line_of_the_table_its_section() -> None:
    assert {title for title, text in SECTIONS.items() if script(text).count("\n")} == TESTED
    for anchor in re.findall(r"\]\(#([a-z-]+)\)", TEXT):
        assert anchor in {title.lower().replace(" ", "-") for title in SECTIONS}


def follow(title: str, service: Service, *, after: str = "", until: str = "", programs: Path | None = None) -> str:
    """Do what the section says, or what stands in it ``after`` and ``until`` these words; what its commands printed."""
    text = SECTIONS[title]
    for words in (after, until):
        assert text.count(words) == 1 or not words, words
    text = text[text.index(after) : text.index(until) if until else None]
    environment = {"STRONGROOM_URL": service.url, **service.environment}
    if programs:
        environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}:{programs}"
    return run_script(script(text), service.place / "home", environment, prefix=service.prefix).stdout


def sell(service: Service, name: str = "orders", **requested: Any) -> dict[str, Any]:
    """An instance with some sales."""
    view = service.create(name, databases=[{"name": "shop"}], **requested)
    with service.sql(view["id"], "shop") as connection:
        connection.cursor().execute("CREATE TABLE sales (id INT PRIMARY KEY, amount INT)")
        connection.cursor().execute("INSERT INTO sales VALUES (1, 10), (2, 20)")
    return view


def sums(service: Service, view: dict[str, Any]) -> dict[str, tuple[int, int]]:
    with service.sql(view["id"], "shop") as connection:
        return checksums(connection)


def test_the_data_is_wrong(serve: Callable[..., Service]) -> None:
    service = serve()
    view = sell(service)
    service.backup("orders", "monday")
    good = sums(service, view)
    with service.sql(view["id"], "shop") as connection:
        connection.cursor().execute("DROP TABLE sales")
    printed = follow("The data is wrong", service, programs=mariadb_client.require())
    assert printed.count("COUNT(*)\n2\n") == 2
    assert sums(service, view) == good


def test_a_database_is_damaged(serve: Callable[..., Service]) -> None:
    service = serve()
    view = sell(service)
    service.backup("orders", "monday")
    good = sums(service, view)
    data = service.data_dir / "instances" / view["id"] / "data"
    service.wait(service.act(f"/instances/{view['id']}/action", {"stop": {}}))
    for name in ("ibdata1", "ib_logfile0"):
        (data / name).write_bytes(b"damaged" * 4096)
    follow("A database is damaged", service)
    assert sums(service, view) == good
    newest = max(service.get("/backups")["backups"], key=lambda backup: backup["created"])
    assert (newest["name"], newest["kind"]) == ("after-restore", "full")


def test_a_cluster_is_down() -> None:
    with cluster_service() as service:
        shop = Shop(service)
        with shop.sql(0) as connection:
            monday = checksums(connection)
        shop.backup("monday")
        tuesday = shop.write("tuesday")
        for pid in shop.pids():
            os.kill(pid, signal.SIGKILL)
        until(lambda: shop.view["status"] != "HEALTHY", 60)
        follow("A cluster is down", service, until="If the data itself")
        shop.require(tuesday)
        follow("A cluster is down", service, after="If the data itself")
        shop.require(monday)


@pytest.mark.root
@pytest.mark.skipif(bool(namespaces.missing()), reason=namespaces.missing() or "-")
def test_a_host_is_lost(place: Path) -> None:
    with Hosts(place, 2, config="[hosts]\nsilent_after = 3\nlost_after = 6\n") as hosts:
        service = hosts.service
        view = service.create("orders", databases=[{"name": "shop"}], host="h2")
        with hosts.sql(view["id"], "shop") as connection:
            connection.cursor().execute("CREATE TABLE sales (id INT PRIMARY KEY)")
            connection.cursor().execute("INSERT INTO sales VALUES (1), (2)")
            good = checksums(connection)
        service.backup("orders", "monday")
        hosts.partition("h2")
        hosts.wait_status("h2", "silent")
        follow("A host is lost", service)
        (found,) = service.get("/instances")["instances"]
        assert (found["name"], found["host"]) == ("orders2", "h1")
        with hosts.sql(found["id"], "shop") as connection:
            assert checksums(connection) == good
        assert [backup["name"] for backup in service.get("/backups")["backups"]] == ["monday"]


def test_the_control_plane_is_lost(serve: Callable[..., Service], place: Path) -> None:
    service = serve(config=f'[storage]\npath = "{place / "store"}"\n')
    good = sums(service, sell(service))
    service.backup("orders", "monday")
    service.kill()
    processes.end(service.data_dir)
    shutil.rmtree(service.data_dir)
    service.start()
    printed = follow("The control plane is lost", service)
    assert printed.endswith("COUNT(*)\n2\n")
    (found,) = service.get("/instances")["instances"]
    assert sums(service, found) == good


def test_the_store_is_unreachable(serve: Callable[..., Service], place: Path) -> None:
    store, away = place / "mount" / "store", place / "away"
    store.parent.mkdir(mode=0o711)
    service = serve(config=f'[storage]\npath = "{store}"\n')
    sell(service)
    service.backup("orders", "monday")
    store.parent.rename(away)
    store.parent.touch()  # no directory can be made there
    follow("The store is unreachable or lost", service, until="**It is reachable again**")
    store.parent.unlink()
    away.rename(store.parent)
    follow("The store is unreachable or lost", service, after="**It is reachable again**")
    assert all(backup["restorable"] for backup in service.get("/backups")["backups"])


def test_the_key_is_lost(serve: Callable[..., Service], place: Path) -> None:
    service = serve()
    configuration = service.config.read_text()

    def encrypt(identity: Path, recipient: str) -> None:
        service.config.write_text(f'{configuration}[encryption]\nrecipients = ["{recipient}"]\nidentity_files = ["{identity}"]\n')
        service.restart()

    old = place / "old-key.txt"
    encrypt(old, service.cli("key", "new", "--output", str(old)).stdout.split()[-1])
    sell(service)
    service.backup("orders", "monday")
    old.unlink()
    printed = follow("The key is lost", service, until="Put the recipient")
    encrypt(service.place / "home" / "new-key.txt", next(word for word in printed.split() if word.startswith("age1")))
    follow("The key is lost", service, after="Put the recipient")
