"""Tables, JSON and values: what a person sees, and what a program can rely on."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import Result

from strongroom.cli.output.values import escape, format_duration, format_moment, format_ratio, format_size
from support.canned import BACKUP, Canned

Run = Callable[..., Result]


def test_a_list_as_a_table(run: Run, canned: Canned) -> None:
    canned.on("GET", "/backups", (200, {"backups": [BACKUP]}))
    heading, _, row = run("backup", "list").stdout.splitlines()
    assert " ".join(heading.split()) == (
        "Name Instance Kind Status Data Stored Ratio Time Verified Protected Held Expires (UTC) Parent Created (UTC) ID"
    )
    numbers = "310.0 MiB 100.0 MiB 3.0x 3.2 s tables 2026-11-21 08:00:00 no 2026-11-21 07:00:00"
    assert " ".join(row.split()) == f"monday mysql1 full COMPLETED {numbers} {BACKUP['id']}"
    canned.on("GET", "/backups", (200, {"backups": [{**BACKUP, "unrestorable_reason": "backup x is damaged"}]}))
    assert "not restorable" in run("backup", "list").stdout


def test_json_is_what_the_api_says_in_raw_bytes(run: Run, canned: Canned) -> None:
    canned.on("GET", "/backups", (200, {"backups": [BACKUP]}))
    canned.on("GET", "/backups/monday", (200, {"backup": BACKUP}))
    assert json.loads(run("backup", "list", "--format", "json").stdout) == [BACKUP]
    assert json.loads(run("backup", "show", "monday", "-f", "json").stdout) == BACKUP


def test_values_are_bare(run: Run, canned: Canned) -> None:
    canned.on("GET", "/backups", (200, {"backups": [BACKUP]}))
    canned.on("GET", "/backups/monday", (200, {"backup": BACKUP}))
    assert run("backup", "show", "monday", "-f", "value", "-c", "id").stdout == BACKUP["id"] + "\n"
    shown = run("backup", "list", "-f", "value", "-c", "name", "-c", "data_size", "-c", "restorable", "-c", "parent_id")
    assert shown.stdout == f"monday\t{310 * 1024**2}\ttrue\t\n"


def test_columns_are_chosen_by_title_or_path(run: Run, canned: Canned) -> None:
    canned.on("GET", "/backups/monday", (200, {"backup": BACKUP}))
    assert run("backup", "show", "monday", "-f", "value", "-c", "stored", "-c", "datastore.type").stdout == "104857600\nmariadb\n"
    assert json.loads(run("backup", "show", "monday", "-f", "json", "-c", "positions.to_lsn").stdout) == {
        "positions.to_lsn": 4711
    }
    unknown = run("backup", "show", "monday", "-c", "nonsense")
    assert unknown.exit_code == 2
    assert "nonsense" in unknown.stderr and "data_size" in unknown.stderr


def test_empty_fields_are_left_out_of_a_record(run: Run, canned: Canned) -> None:
    canned.on("GET", "/backups/monday", (200, {"backup": BACKUP}))
    shown = run("backup", "show", "monday").stdout
    assert "Fault" not in shown and "Parent" not in shown
    told = "good, every segment read, chain prepared, 7 tables read by a private server, 2 backups of the chain"
    assert f"{told}, 1000 B at 2026-11-21 08:00:00" in " ".join(shown.split())
    assert "from_lsn=0, to_lsn=4711" in shown


def test_an_empty_list_is_an_empty_table(run: Run, canned: Canned) -> None:
    canned.on("GET", "/backups", (200, {"backups": []}))
    assert run("backup", "list").exit_code == 0
    assert json.loads(run("backup", "list", "-f", "json").stdout) == []
    assert run("backup", "list", "-f", "value").stdout == ""


def test_names_are_shown_and_never_interpreted(run: Run, canned: Canned) -> None:
    name = "[bold]x[/bold] :smile: \x1b]0;owned\x07 \u202eevil émile"
    canned.on("GET", "/backups", (200, {"backups": [{**BACKUP, "name": name}]}))
    escaped = "[bold]x[/bold] :smile: \\x1b]0;owned\\x07 \\u202eevil émile"
    assert escaped in run("backup", "list").stdout
    assert run("backup", "list", "-f", "value", "-c", "name").stdout == escaped + "\n"
    printed = run("backup", "list", "-f", "json").stdout
    assert json.loads(printed)[0]["name"] == name
    assert "\x1b" not in printed and "\u202e" not in printed


def test_a_newline_in_a_name_does_not_break_the_line_of_a_value(run: Run, canned: Canned) -> None:
    canned.on("GET", "/backups", (200, {"backups": [{**BACKUP, "name": "a\nb"}]}))
    assert run("backup", "list", "-f", "value", "-c", "name").stdout == "a\\nb\n"


def test_every_page_is_read_and_filters_are_kept(run: Run, canned: Canned) -> None:
    following = {"rel": "next", "href": "https://elsewhere/v1.0/default/backups?instance_id=i1&marker=20"}
    canned.on(
        "GET",
        "/backups",
        (200, {"backups": [{**BACKUP, "name": "a"}], "links": [following]}),
        (200, {"backups": [{**BACKUP, "name": "b"}]}),
    )
    assert run("backup", "list", "-i", "i1", "-f", "value", "-c", "name").stdout == "a\nb\n"
    assert [query for _, _, query, _ in canned.asked] == ["instance_id=i1&trashed=true", "instance_id=i1&trashed=true&marker=20"]


@pytest.mark.parametrize(("noun", "collection"), [("db", "databases"), ("user", "users")])
def test_databases_and_users_are_listed_from_all_pages(run: Run, canned: Canned, noun: str, collection: str) -> None:
    path = f"/instances/mysql1/{collection}"
    following = {"rel": "next", "href": f"https://elsewhere/v1.0/default{path}?limit=1&marker=a%40%25"}
    one = {"host": "%", "databases": []} if noun == "user" else {}
    canned.on(
        "GET",
        path,
        (200, {collection: [{"name": "a", **one}], "links": [following]}),
        (200, {collection: [{"name": "b", **one}]}),
    )
    assert run(noun, "list", "mysql1", "-f", "value", "-c", "name").stdout == "a\nb\n"
    assert canned.asked[-1][2] == "marker=a%40%25"


@given(st.text())
def test_safe_text_is_printable(text: str) -> None:
    assert all(c.isprintable() or c == "\n" for c in escape(text))
    assert text.isprintable() <= (escape(text) == text)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536 * 1024**2, "1.5 GiB"), (3 * 1024**5, "3072.0 TiB")],
)
def test_sizes_are_readable(value: int | None, text: str) -> None:
    assert format_size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 0 s"), (3725, "1 h 2 min"), (119.6, "2 min 0 s")],
)
def test_durations_are_readable(value: float | None, text: str) -> None:
    assert format_duration(value) == text


def test_ratios_and_times_are_readable() -> None:
    assert format_ratio(300, 100) == "3.0x"
    assert format_ratio(300, 0) == format_ratio(None, 5) == ""
    assert format_moment("2026-11-21T07:00:03.21Z") == "2026-11-21 07:00:03"
    assert format_moment(None) == ""
