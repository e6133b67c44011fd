"""``run_checks``: what is wrong is found, named, and has a remedy."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from strongroom.agent import Check, run_checks
from strongroom.agent.checks import CheckRequest, check_host
from strongroom.agent.host import limits
from strongroom.agent.host.stores import stall_timeout
from strongroom.artifact import new_identity
from strongroom.datastores import get
from strongroom.errors import ConfigurationError
from strongroom.settings import Settings, load
from strongroom.worker.spec import StorageSpec
from support.mysql_programs import version


def _checks(place: Path, pool: str, **sections: dict[str, Any]) -> dict[str, Check]:
    data_dir = place / "d"
    data_dir.mkdir(exist_ok=True)
    agent = {"pool": pool, **sections.pop("agent", {})}
    found = run_checks(load(None, **{"service": {"data_dir": str(data_dir)}, "agent": agent, **sections}))
    worst: dict[str, Check] = {}
    for check in found:
        if check.name not in worst or check.level != "ok":
            worst[check.name] = check
        assert check.level == "ok" or check.remedy, check
    return worst


def test_a_good_host(place: Path, pool: str) -> None:
    found = _checks(place, pool)
    assert {name for name, check in found.items() if check.level == "error"} == set()
    assert found["mariadb 10.11"].level == found["store"].level == found["addresses"].level == found["clock"].level == "ok"
    assert found["store place"].level == "warning"
    assert [p for p in (place / "d/store").rglob("*") if p.is_file()] == []


def test_every_database(place: Path, pool: str) -> None:
    found = _checks(place, pool, datastores={"mysql": [str(version().programs["server"].parent)]})
    assert {name for name, check in found.items() if check.level == "error"} == set()
    assert {"mariadb 10.11", "mysql 9.7", "postgresql 15"} <= set(found)


def test_exhausted_events_of_asynchronous_io(place: Path, pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "aio-max-nr").write_text("65536\n")
    monkeypatch.setattr(limits, "_SYSTEM", place)
    for used, level, said in ((65000, "error", "no more servers of mysql"), (62000, "warning", "1 more servers of mysql")):
        (place / "aio-nr").write_text(f"{used}\n")
        found = _checks(place, pool, datastores={"mysql": [str(version().programs["server"].parent)]})["limits"]
        assert found.level == level and said in found.message and "sysctl" in found.remedy
    (place / "aio-nr").write_text("65000\n")
    with pytest.raises(ConfigurationError, match="536 events are left, but a server of mysql needs"):
        limits.require_aio_events(get("mysql"))
    limits.require_aio_events(get("mariadb"))


def test_no_setpriv(place: Path, pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(place))
    assert "setpriv" in _checks(place, pool)["tools"].message


def test_a_pool_of_another_host(place: Path, pool: str) -> None:
    found = _checks(place, pool, agent={"pool": "192.0.2.0/24"})["addresses"]
    assert found.level == "error" and "192.0.2.1" in found.message


def test_a_full_pool(place: Path, pool: str) -> None:
    base = pool.removesuffix("0/24")
    with socket.create_server((f"{base}1", 3306)), socket.create_server((f"{base}2", 3306)):
        found = _checks(place, pool, agent={"pool": f"{base}0/30"})["addresses"]
    assert found.level == "error" and "no address" in found.message


def test_a_store_that_is_a_file(place: Path, pool: str) -> None:
    (place / "file").write_text("")
    assert _checks(place, pool, storage={"path": str(place / "file")})["store"].level == "error"


def test_a_store_that_does_not_answer(place: Path, pool: str, free_port: int) -> None:
    storage = {
        "driver": "s3",
        "bucket": "b",
        "endpoint": f"http://127.0.0.1:{free_port}",
        "access_key_id": "k",
        "secret_access_key": "hush",
        "retries": 0,
        "timeout": 2,
    }
    found = _checks(place, pool, storage=storage)["store"]
    assert found.level == "error" and "hush" not in found.message


def test_keys(place: Path, pool: str) -> None:
    identity, recipient = new_identity()
    key = place / "key"
    key.write_text(identity + "\n")
    key.chmod(0o640)
    one = _checks(place, pool, encryption={"recipients": [recipient]})
    assert one["encryption"].level == "ok" and "neither restored" in one["identities"].message
    two = _checks(place, pool, encryption={"recipients": [recipient], "identity_files": [str(key)]})
    assert two["identities"].level == "warning" and "read by others" in two["identities"].message
    key.chmod(0o644)
    three = _checks(place, pool, encryption={"recipients": [recipient], "identity_files": [str(key)]})
    assert three["encryption"].level == "error" and "can be read by every user" in three["encryption"].message
    key.chmod(0o600)
    strange = _checks(place, pool, encryption={"recipients": [new_identity()[1]] * 2, "identity_files": [str(key)]})
    assert strange["encryption"].message == "on, for 1 recipient"
    assert strange["identities"].level == "error" and "could not be restored here" in strange["identities"].message
    assert _checks(place, pool, encryption={"identity_files": [str(key)]})["identities"].level == "ok"
    assert _checks(place, pool, encryption={"recipients": ["age1wrong"]})["encryption"].level == "error"


def test_clock_that_was_moved_back(place: Path, pool: str) -> None:
    (place / "d").mkdir()
    later = time.time() + 3600
    (place / "d/catalog.sqlite").write_text("")
    os.utime(place / "d/catalog.sqlite", (later, later))
    found = _checks(place, pool)["clock"]
    assert found.level == "warning" and "moved back" in found.message


@pytest.mark.root
def test_data_directory_that_servers_cannot_access(place: Path, pool: str) -> None:
    (place / "closed").mkdir(mode=0o700)
    found = _checks(place, pool, service={"data_dir": str(place / "closed/d")})["data directory"]
    assert found.level == "error" and "chmod o+x" in found.remedy


def test_an_unknown_user(place: Path, pool: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root chooses")
    found = _checks(place, pool, agent={"servers_user": "nosuchuser"})["datastores"]
    assert found.level == "error" and "nosuchuser" in found.message


def test_host_is_checked_with_the_settings_of_the_control_plane(place: Path, pool: str) -> None:
    """Its own sections on stores and keys are used by no job, so that they prove nothing."""
    mine = {"storage": {"path": str(place / "mine")}, "encryption": {"recipients": [new_identity()[1]]}}
    settings = load(None, service={"data_dir": str(place / "d")}, agent={"pool": pool}, **mine)
    (place / "file").write_text("")
    sent = CheckRequest(storage=StorageSpec(driver="directory", path=place / "file"))
    found = check_host(settings, sent)
    (store,) = [check for check in found if check.name == "store"]
    assert store.level == "error" and str(place / "file") in store.message
    unused = [check.message for check in found if check.name == "configuration"]
    assert len(unused) == 2 and "[storage]" in unused[0] and "[encryption]" in unused[1]
    assert not [check for check in found if check.name in ("encryption", "identities")]


def test_program_that_waits_for_the_store_is_not_stalled(place: Path, pool: str) -> None:
    def settings(seconds: float) -> Settings:
        return load(None, service={"data_dir": str(place / "d")}, agent={"pool": pool, "stall_timeout": seconds})

    remote = StorageSpec(driver="s3", bucket="b", retries=8, timeout=60)
    assert remote.patience == 121 + 9 * 60
    assert stall_timeout(settings(30), remote) > remote.patience
    assert stall_timeout(settings(1800), remote) == 1800
    assert stall_timeout(settings(30), StorageSpec(driver="directory", path=place)) == 30
    assert stall_timeout(settings(30), None) == 30
