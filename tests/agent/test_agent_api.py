"""The agent's HTTP API through its own client."""

from __future__ import annotations

import asyncio
import inspect
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from structlog.testing import capture_logs

from strongroom.agent import Agent, AgentClient, routes
from strongroom.agent.checks import CheckRequest
from strongroom.agent.connection import VERSION_HEADER
from strongroom.agent.jobs import Jobs
from strongroom.agent.remote import RemoteAgent
from strongroom.agent.tls import key_pair
from strongroom.datastores import DatabaseSpec, UserChange, UserSpec
from strongroom.errors import (
    AgentBroken,
    AgentMismatch,
    AlreadyExists,
    Busy,
    HostSilent,
    HostTimeout,
    HostUntrusted,
    InvalidRequest,
    NotFound,
    StrongroomError,
    Unavailable,
)
from strongroom.worker.spec import InitializeJob, JobRequest
from support.agents import AgentMaker, definition, finish, request, until


def _embedded(agent: Agent) -> AgentClient:
    return AgentClient(transport=httpx.ASGITransport(app=agent.app, raise_app_exceptions=False))


@pytest.fixture
def remote(agents: AgentMaker) -> Iterator[tuple[Agent, str]]:
    """An agent behind a real socket, started by its lifespan."""
    agent = agents()
    agent.stop()
    bound = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(agent.app, log_level="warning"))
    thread = threading.Thread(target=server.run, args=([bound],))
    thread.start()
    yield agent, f"http://127.0.0.1:{bound.getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_the_whole_life_over_the_network(remote: tuple[Agent, str]) -> None:
    _, url = remote

    async def live() -> None:
        async with AgentClient(url) as agent:
            host = await agent.host()
            assert host.cores >= 1 and "10.11" in {v.series for v in host.versions} and host.jobs_running == 0
            assert (await agent.put_server("s1", definition())).state == "new"
            view = await agent.put_job("j", JobRequest(server="s1", job=InitializeJob()))
            while view.status == "running":
                view = await agent.get_job("j", wait=10, after=view.events)
            assert view.status == "succeeded" and [j.id for j in await agent.jobs()] == ["j"]
            assert (await agent.swap("s1", "j")).state == "running"
            assert [s.id for s in await agent.servers()] == ["s1"]
            strange = "a/b?c=d&e `f` ü%2F"
            await agent.create_databases("s1", [DatabaseSpec(name="db1"), DatabaseSpec(name=strange)])
            with pytest.raises(AlreadyExists):
                await agent.create_databases("s1", [DatabaseSpec(name=strange)])
            assert {d.name for d in await agent.databases("s1")} == {"db1", strange}
            await agent.create_users("s1", [UserSpec(name="u/1", host="10.0.0.0/255.0.0.0", password="p", databases=["db1"])])
            await agent.grant("s1", "u/1", "10.0.0.0/255.0.0.0", [strange])
            assert [set(u.databases) for u in await agent.users("s1")] == [{"db1", strange}]
            await agent.revoke("s1", "u/1", "10.0.0.0/255.0.0.0", "db1")
            assert [u.databases for u in await agent.users("s1")] == [[strange]]
            await agent.change_user("s1", "u/1", "10.0.0.0/255.0.0.0", UserChange(name="u/2", host="%"))
            assert [(u.name, u.host) for u in await agent.users("s1")] == [("u/2", "%")]
            await agent.change_user("s1", "u/2", "%", UserChange(name="u/1", host="10.0.0.0/255.0.0.0", password="q"))
            assert not await agent.root_enabled("s1")
            assert await agent.enable_root("s1", "p") == "root"
            assert await agent.root_enabled("s1")
            await agent.disable_root("s1")
            with pytest.raises(NotFound):
                await agent.disable_root("s1")
            await agent.drop_user("s1", "u/1", "10.0.0.0/255.0.0.0")
            with pytest.raises(NotFound):
                await agent.drop_user("s1", "u/1", "10.0.0.0/255.0.0.0")
            await agent.drop_database("s1", strange)
            assert [d.name for d in await agent.databases("s1")] == ["db1"]
            assert (await agent.restart_server("s1")).healthy
            assert (await agent.stop_server("s1")).state == "stopped"
            with pytest.raises(Busy, match="does not run"):
                await agent.databases("s1")
            assert (await agent.start_server("s1")).healthy
            assert (await agent.discard_old("s1")).old_data == []
            await agent.delete_server("s1")
            await agent.delete_server("s1")
            with pytest.raises(NotFound):
                await agent.server("s1")
            assert {c.level for c in await agent.checks(CheckRequest())} <= {"ok", "warning"}

    asyncio.run(live())


def test_each_route_has_a_method_of_the_client() -> None:
    named = {name for name, value in vars(routes).items() if isinstance(value, routes.Route)}
    used = set(re.findall(r"routes\.([A-Z_]+)", inspect.getsource(AgentClient)))
    assert named == used and len(named) == len(routes.ROUTES) == len({(r.method, r.path) for r in routes.ROUTES})


def test_errors_keep_their_kind_and_their_remedy(agents: AgentMaker) -> None:
    agent = agents(scripted=True)

    async def ask() -> None:
        client = _embedded(agent)
        await client.put_server("s1", definition())
        await client.put_job("a", request("sleep", server="s1"))
        with pytest.raises(Busy) as busy:
            await client.put_job("b", request("quick", server="s1"))
        assert busy.value.remedy
        assert (await client.cancel_job("a")).status in ("running", "cancelled")
        with pytest.raises(NotFound):
            await client.get_job("b")

    asyncio.run(ask())
    assert finish(agent, "a").status == "cancelled"


def test_defect_is_logged_on_the_host(agents: AgentMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Jobs, "views", lambda _: 1 // 0)
    agent = agents()
    with capture_logs() as logs, pytest.raises(Unavailable, match="HTTP 500"):
        asyncio.run(_embedded(agent).jobs())
    (line,) = (entry for entry in logs if entry["log_level"] == "error")
    assert line["path"] == "/jobs" and isinstance(line["exc_info"], ZeroDivisionError)


def test_invalid_body_is_not_echoed(agents: AgentMaker) -> None:
    agent = agents(scripted=True)

    async def send(body: object) -> httpx.Response:
        transport = httpx.ASGITransport(app=agent.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://agent") as http:
            return await http.put("/jobs/j", json=body)

    reply = asyncio.run(
        send({"job": {"kind": "verify", "identities": ["AGE-SECRET-KEY-hush"], "storage": {"secret_access_key": 7}}})
    )
    assert reply.status_code == InvalidRequest.status and reply.json()["error"]["code"] == "InvalidRequest"
    assert "hush" not in reply.text and "job.verify.location: Field required" in reply.text


def test_many_long_polls_do_not_block_other_requests(agents: AgentMaker) -> None:
    """A long poll holds no thread: a hundred of them leave room for everybody else."""
    agent = agents(scripted=True)
    agent.jobs.put("j", request("sleep"))
    until(lambda: agent.jobs.view("j").events)

    async def crowd() -> float:
        client = _embedded(agent)
        waiting = [asyncio.create_task(client.get_job("j", wait=30, after=1)) for _ in range(100)]
        await asyncio.sleep(0.3)
        started = time.monotonic()
        await client.servers()
        took = time.monotonic() - started
        await client.cancel_job("j")
        assert {view.status for view in await asyncio.gather(*waiting)} == {"cancelled"}
        return took

    assert asyncio.run(crowd()) < 10


def test_unreachable_agent_has_its_own_error(free_port: int) -> None:
    async def ask() -> None:
        async with AgentClient(f"http://127.0.0.1:{free_port}") as client:
            await client.host()

    with pytest.raises(Unavailable, match="cannot be reached"):
        asyncio.run(ask())


def _errors_of(transport: httpx.AsyncBaseTransport) -> Callable[..., StrongroomError]:
    def ask(call: str = "servers", *arguments: Any) -> StrongroomError:
        async def one() -> StrongroomError:
            client = AgentClient("https://10.0.0.1:8780", host="db1", transport=transport)
            with pytest.raises(StrongroomError) as error:
                await getattr(client, call)(*arguments)
            return error.value

        return asyncio.run(one())

    return ask


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (httpx.Response(500, text="unexpected error"), AgentBroken, "HTTP 500"),
        (httpx.Response(200, json=[{"id": "s"}]), AgentBroken, "HTTP 200"),
        (httpx.Response(200, json=[{"id": "s"}], headers={VERSION_HEADER: "9.9"}), AgentMismatch, "of version 9.9"),
        (httpx.Response(404, json={"detail": "Not Found"}, headers={VERSION_HEADER: "9.9"}), AgentMismatch, "of version 9.9"),
        (
            httpx.Response(
                400, json={"error": InvalidRequest("request not understood: x").to_dict()}, headers={VERSION_HEADER: "9.9"}
            ),
            AgentMismatch,
            "of version 9.9",
        ),
        (httpx.Response(400, json={"error": InvalidRequest("request not understood: x").to_dict()}), InvalidRequest, "x"),
        (httpx.ReadTimeout("slow"), HostTimeout, "did not answer in time"),
        (httpx.ConnectTimeout("slow"), HostSilent, "no connection in time"),
        (httpx.ConnectError("refused"), HostSilent, "refused"),
    ],
    ids=["500", "nonsense", "other-version", "no-such-route", "not-understood", "bad-request", "slow", "no-way", "refused"],
)
def test_each_cause_has_its_own_error(answer: httpx.Response | httpx.HTTPError, kind: type[StrongroomError], said: str) -> None:
    def handle(_request: httpx.Request) -> httpx.Response:
        if isinstance(answer, httpx.HTTPError):
            raise answer
        return httpx.Response(answer.status_code, stream=httpx.ByteStream(answer.content), headers=answer.headers)

    error = _errors_of(httpx.MockTransport(handle))()
    assert type(error) is kind and said in error.message
    if kind is not InvalidRequest:
        assert "host db1" in error.message and error.remedy


@pytest.mark.parametrize("wrong", ["the host", "the control plane"])
def test_wrong_certificate_is_not_reported_as_unreachable(place: Path, wrong: str) -> None:
    control, stranger, host, other = (key_pair(place / name, name) for name in ("control", "stranger", "host", "other"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown = other if wrong == "the host" else host
    context.load_cert_chain(shown.certificate_file, shown.key_file)
    context.load_verify_locations(cadata=(stranger if wrong == "the control plane" else control).certificate)
    context.verify_mode = ssl.CERT_REQUIRED

    async def ask() -> StrongroomError:
        async def hear(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        server = await asyncio.start_server(hear, "127.0.0.1", 0, ssl=context)
        async with server:
            port = server.sockets[0].getsockname()[1]
            agent = RemoteAgent("db1", f"https://127.0.0.1:{port}", control.client(host.certificate))
            with pytest.raises(StrongroomError) as error:
                await agent().servers()
            return error.value

    error = asyncio.run(ask())
    assert "host db1" in error.message and "strongroom host add db1" in error.remedy
    if wrong == "the host":  # who refuses us may be gone before it has said so
        assert type(error) is HostUntrusted
