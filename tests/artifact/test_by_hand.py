"""The commands of docs/artifact.md, run as they stand there: stock tools recover a real server without any code of ours."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from strongroom.artifact import Location, Parent, new_identity, read_manifest
from strongroom.sections import Artifact
from strongroom.storage import Store
from support.artifacts import write_artifact
from support.mariadb import FileLink, MariaDBServer, backup, make, running

DOCS = Path(__file__).parents[2] / "docs" / "artifact.md"
COMMANDS = dict(re.findall(r"<!-- run: ([\w ]+) -->\n```sh\n(.*?)```", DOCS.read_text(), re.DOTALL))
SETTINGS = Artifact(segment_size=1024**2, threads=2)

# stands in where age is not installed
AGE = """#!{python}
import sys, pyrage
_, decrypt, inform, identity, segment = sys.argv
assert (decrypt, inform) == ("-d", "-i")
key = [line for line in open(identity).read().splitlines() if line.startswith("AGE-SECRET-KEY")][0]
sys.stdout.buffer.write(pyrage.decrypt(open(segment, "rb").read(), [pyrage.x25519.Identity.from_str(key)]))
"""


@dataclass
class Hand:
    """A person with a shell."""

    place: Path
    names: dict[str, str]

    def run(self, what: str, **names: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.place / 'bin'}:{os.environ['PATH']}"
        environment = {"PATH": path, "LANG": "C.UTF-8", **self.names, **names}
        return subprocess.run(["bash", "-c", COMMANDS[what]], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def hand(place: Path, top: Path) -> Hand:
    for name in ("bin", "work", "target"):
        (place / name).mkdir()
    names = {"STORE": top, "CONTAINER": "box", "FULL": "full", "TARGET": place / "target", "WORK": place / "work"}
    return Hand(place, {name: str(value) for name, value in names.items()})


def store_backup(store: Store, name: str, link: FileLink, parent: str | None = None, **options: Any) -> None:
    fields: dict[str, Any] = {
        "kind": link.kind,
        "positions": link.positions,
        "server_version": link.server_version,
        "chain": "full",
    }
    if parent:
        location = Location(container="box", id=parent)
        fields["parent"] = Parent(location=location, manifest_sha256=read_manifest(store, location)[1])
    location = Location(container="box", id=name)
    write_artifact(store, location, link.path.read_bytes(), SETTINGS, stream="mbstream", **options, **fields)


def checksums_of(place: Path, data: Path) -> dict[str, tuple[int, int]]:
    recovered: MariaDBServer = make(place, None, name="recovered")
    shutil.rmtree(recovered.data_dir)
    data.rename(recovered.data_dir)
    try:
        recovered.start()
        return recovered.checksums()
    finally:
        recovered.kill()


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.root
def test_full_and_incrementals(place: Path, store: Store, hand: Hand) -> None:
    with running(place, None) as server:
        server.fill(200)
        links = [backup(server, place, "full")]
        store_backup(store, "full", links[0])
        for number, name in enumerate(("one", "two")):
            server.sql(f"CREATE TABLE db1.extra{number} SELECT seq FROM db1.seq_1_to_1000")
            links.append(backup(server, place, name, links[-1]))
            store_backup(store, name, links[-1], parent="one" if number else "full")
        expected = server.checksums()
        server.stop()
    for name in ("full", "one", "two"):
        done = hand.run("check", FULL=name)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = hand.run("full")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = hand.run("prepare")
    assert (done.returncode, last_line(done)[-13:]) == (0, "completed OK!")
    for name in ("one", "two"):
        done = hand.run("incremental", INCREMENTAL=name)
        assert (done.returncode, last_line(done)[-13:]) == (0, "completed OK!")
    done = hand.run("one file")
    assert (done.returncode, done.stderr) == (0, "")
    assert (place / "work" / "mysql" / "db.frm").read_bytes() == (place / "target" / "mysql" / "db.frm").read_bytes()
    assert hand.run("hand over").returncode == 0
    assert checksums_of(place, place / "target") == expected
    assert len(expected) > 2


@pytest.mark.root
def test_encrypted(place: Path, store: Store, hand: Hand) -> None:
    identity, recipient = new_identity()
    (place / "identity.txt").write_text(f"# public key: {recipient}\n{identity}\n")
    if not shutil.which("age"):
        (place / "bin" / "age").write_text(AGE.format(python=sys.executable))
        (place / "bin" / "age").chmod(0o755)
    with running(place, None) as server:
        server.fill(200)
        store_backup(store, "full", backup(server, place, "full"), recipients=[recipient])
        expected = server.checksums()
        server.stop()
    assert hand.run("check").returncode == 0
    done = hand.run("full encrypted", IDENTITY=str(place / "identity.txt"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert last_line(hand.run("prepare")).endswith("completed OK!")
    assert hand.run("hand over").returncode == 0
    assert checksums_of(place, place / "target") == expected


def test_check_detects_damage(store: Store, top: Path, hand: Hand) -> None:
    write_artifact(store, Location(container="box", id="full"), os.urandom(300_000))
    assert hand.run("check").returncode == 0
    segment = top / "box" / "full" / "00000002"
    segment.write_bytes(segment.read_bytes()[:-1])
    done = hand.run("check")
    assert done.returncode != 0
    assert "00000002: FAILED" in done.stdout
