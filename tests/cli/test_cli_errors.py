"""Every failure ends in one clear line, a remedy, and an exit code that means something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from typer.testing import Result

from strongroom.cli.connection.client import Client
from strongroom.cli.connection.credentials import Credentials
from strongroom.errors import Unavailable
from support.canned import Canned, Running

Run = Callable[..., Result]


def fault(code: int, name: str, message: str = "it is so", remedy: str = "Do that.") -> tuple[int, Any]:
    return code, {"someKey": {"code": code, "message": message, "remedy": remedy, "error_code": name}}


@pytest.mark.parametrize(
    ("answer", "exit_code"),
    [
        (fault(400, "InvalidRequest"), 2),
        (fault(404, "NotFound"), 3),
        (fault(409, "HasChildren"), 4),
        (fault(409, "LineageChanged"), 4),
        (fault(422, "Busy"), 4),
        (fault(400, "UnknownValue"), 3),
        (fault(403, "Forbidden"), 1),
        (fault(500, "StorageFull"), 1),
        (fault(503, "Unavailable"), 5),
    ],
)
def test_the_exit_code_depends_on_the_kind_of_error(run: Run, canned: Canned, answer: tuple[int, Any], exit_code: int) -> None:
    canned.on("GET", "/backups/x", answer)
    result = run("backup", "show", "x")
    assert result.exit_code == exit_code
    assert result.stderr == "Error: it is so\nDo that.\n"
    assert result.stdout == ""


def test_error_without_the_additional_keys_is_understood(run: Run, canned: Canned) -> None:
    canned.on("GET", "/backups/x", (404, {"itemNotFound": {"code": 404, "message": "Backup not found."}}))
    result = run("backup", "show", "x")
    assert (result.exit_code, result.stderr) == (3, "Error: Backup not found.\n")


@pytest.mark.parametrize("body", ["<html>", "[]", '{"a": 1}', "{}", ""])
def test_another_program_on_the_port_is_reported(run: Run, canned: Canned, body: str) -> None:
    canned.on("GET", "/backups/x", (502, body))
    result = run("backup", "show", "x")
    assert result.exit_code == 5
    assert "502" in result.stderr and "--url" in result.stderr


def test_html_page_instead_of_json_is_reported(run: Run, canned: Canned) -> None:
    canned.on("GET", "/backups/x", (200, "<html>"))
    result = run("backup", "show", "x")
    assert result.exit_code == 5
    assert "not JSON" in result.stderr


@pytest.mark.parametrize(
    ("url", "verified"), [("https://h", True), ("HTTPS://h", True), ("HttpS://h", True), ("http://h", False)]
)
def test_certificates_are_verified_however_the_scheme_is_written(
    url: str, verified: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(httpx, "Client", lambda **options: given.update(options))
    Client(url, None, Credentials())
    assert given["verify"] is verified


def test_slow_service_is_not_reported_as_unreachable(canned: Canned) -> None:
    """The requested operation may have begun, and an error that denies the service would make users repeat it."""
    canned.delay = 1
    client = Client(canned.url, None, Credentials(), patience=0.2)
    with pytest.raises(Unavailable, match="accepted the connection but did not reply") as caught:
        client.post("backups", json={})
    client.close()
    assert "job list" in caught.value.remedy


def test_error_explains_how_to_start_the_service(run: Run, running: Running) -> None:
    running.stop()
    result = run("instance", "list")
    assert result.exit_code == 5
    assert running.canned.url in result.stderr
    assert "strongroom serve" in result.stderr


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1/", "http://", "http://[::1", "http://host:notaport"])
def test_invalid_url_is_a_usage_error(run: Run, url: str) -> None:
    result = run("instance", "list", "--url", url)
    assert result.exit_code == 2
    assert "not valid" in result.stderr


def test_hostile_text_cannot_reach_the_terminal(run: Run, canned: Canned) -> None:
    canned.on("GET", "/backups/x", fault(404, "NotFound", "no \x1b[2J\x9b1m\u202e[red]x[/red]", "\x07Ring."))
    result = run("backup", "show", "x")
    assert result.stderr == "Error: no \\x1b[2J\\x9b1m\\u202e[red]x[/red]\n\\x07Ring.\n"


@pytest.mark.parametrize("name", ["..", ".", ""])
def test_names_that_a_url_cannot_carry_are_refused(run: Run, canned: Canned, name: str) -> None:
    result = run("instance", "show", name)
    assert result.exit_code == 2
    assert canned.asked == []


def test_names_are_quoted_in_the_path(run: Run, canned: Canned) -> None:
    run("instance", "show", "a/b c?d#e%")
    assert canned.asked[0][1] == "/v1.0/default/instances/a%2Fb%20c%3Fd%23e%25"


def test_the_project_is_a_part_of_the_path(run: Run, canned: Canned, monkeypatch: pytest.MonkeyPatch) -> None:
    run("instance", "list", "--project", "p 1")
    monkeypatch.setenv("STRONGROOM_PROJECT", "p2")
    run("instance", "list")
    assert [path for _, path, _, _ in canned.asked] == ["/v1.0/p%201/instances", "/v1.0/p2/instances"]


@pytest.mark.parametrize(
    "words",
    [
        ["instance", "adopt", "a", "--socket", "/s", "--start-command", "sh -c 'start"],
        ["cluster", "adopt", "a", "--node", "socket=/s", "--stop-command", "sh -c 'stop"],
        ["cluster", "adopt", "a", "--node", "socket=/s,start_command=sh -c 'start"],
    ],
)
def test_command_with_an_open_quotation_is_a_wrong_value(run: Run, canned: Canned, words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert "No closing quotation" in result.stderr
    assert canned.bodies("POST") == []
