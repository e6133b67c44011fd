"""What an attacker who is root on a host can do: nothing beyond it, as docs/hosts.md describes."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from support.hosts import PASSWORD, Hosts

pytestmark = pytest.mark.root

ASK = """
import json, ssl, sys, http.client
address, pem, key, path = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
if pem != "-":
    context.load_cert_chain(pem, key)
try:
    connection = http.client.HTTPSConnection(address, 8780, context=context, timeout=20)
    connection.request("GET", path)
    reply = connection.getresponse()
    print(json.dumps([reply.status, reply.read().decode()]))
except OSError as error:
    print(json.dumps([0, str(error)]))
"""


def ask(hosts: Hosts, at: str, address: str, path: str, keys: Path | None) -> Any:
    """GET of an agent, asked from the host ``at`` with a key pair of a directory: status (0: refused) and body."""
    pair = [str(keys / "certificate.pem"), str(keys / "key.pem")] if keys else ["-", "-"]
    return json.loads(hosts[at].run(sys.executable, "-c", ASK, address, *pair, path).stdout)


def test_an_agent_accepts_only_its_control_plane(hosts: Hosts) -> None:
    mine = hosts["h1"].data_dir / "agent" / "control-plane"
    for at in ("h1", "h2"):
        for keys in (None, mine):
            for path in ("/jobs", "/servers", "/host"):
                status, why = ask(hosts, at, hosts["h2"].address, path, keys)
                assert status == 0, why
    # The same request succeeds with the key of the control plane, which exists on its own machine only.
    status, body = ask(hosts, "h1", hosts["h2"].address, "/jobs", hosts.service.data_dir / "control-plane")
    assert (status, json.loads(body)) == (200, [])


def test_the_control_plane_does_not_accept_agents_as_callers(hosts: Hosts) -> None:
    address = hosts.service.url
    script = "import sys, urllib.request as r, urllib.error as e\n"
    script += "def status(u):\n try: return r.urlopen(u, timeout=20).status\n except e.HTTPError as x: return x.code\n"
    script += "print([status(sys.argv[1] + p) for p in sys.argv[2:]])"
    paths = [f"/v1.0/default/{what}" for what in ("jobs", "backups", "instances", "hosts", "checks")]
    assert json.loads(hosts["h1"].run(sys.executable, "-c", script, address, *paths).stdout) == [401] * len(paths)


def test_a_host_has_no_data_of_the_control_plane(hosts: Hosts) -> None:
    service = hosts.service
    service.create("bare", host="h1")
    service.backup("bare", "b1")
    secrets = [PASSWORD, "password-of-the-database", (service.data_dir / "control-plane" / "key.pem").read_text()]
    files = [path for path in hosts["h1"].data_dir.rglob("*") if path.is_file() and "data" not in path.parts]
    assert any("events.jsonl" in path.name for path in files)
    for path in files:
        text = path.read_bytes().decode(errors="replace")
        assert not [secret for secret in secrets if secret in text], path
    for path in (hosts["h1"].data_dir / "agent" / "control-plane").iterdir():
        assert path.stat().st_mode & 0o077 == 0 or path.parent.stat().st_mode & 0o077 == 0, path


def test_reports_of_an_agent_about_servers_on_other_hosts_are_ignored(hosts: Hosts) -> None:
    from strongroom.agent.models import ServerView
    from strongroom.catalog import Instance, now, open_catalog
    from strongroom.flows import Engine, Monitor, open_site
    from strongroom.settings import load
    from strongroom.storage import open_store

    place = hosts.place / "mirror"
    place.mkdir()
    settings = load(service={"data_dir": place})
    control = open_site(settings, open_catalog(settings), open_store(settings.storage, place / "s"), {})
    monitor = Monitor(control, Engine(control))
    with control.catalog.write() as session:
        for host in ("h1", "h2"):
            fields = {"project": "p", "datastore": "mariadb", "series": "10.11", "flavor": "d1", "volume_size": 1}
            session.add(Instance(id=f"on-{host}", name=host, host=host, **fields))
    lies = [
        ServerView(
            id=f"on-{host}",
            name="x",
            datastore="mariadb",
            series="10.11",
            version_number="1",
            runtime="process",
            wanted="running",
            state="running",
            healthy=True,
            address="6.6.6.6",
            data_dir=Path("/"),
        )
        for host in ("h1", "h2")
    ]
    asyncio.run(asyncio.to_thread(monitor._write_servers, "h1", now(), lies))
    with control.catalog.read() as session:
        seen = {name: session.get(Instance, f"on-{name}") for name in ("h1", "h2")}
    assert {name: row.address if row else "" for name, row in seen.items()} == {"h1": "6.6.6.6", "h2": None}
    # One that its own agent does not know any more is not shown as it was.
    asyncio.run(asyncio.to_thread(monitor._write_servers, "h1", now(), []))
    with control.catalog.read() as session:
        row = session.get(Instance, "on-h1")
        assert row is not None
        assert (row.state, row.healthy, "does not know this server" in row.detail) == ("failed", False, True)
    control.catalog.close()
