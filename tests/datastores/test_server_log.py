"""The error for a server that does not start: the cause first, and no secrets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from strongroom.datastores.mariadb.restore.private import explain_end
from strongroom.datastores.postgresql.profile.rehearsal import _raise_if_stopped
from strongroom.datastores.toolkit.server_log import make_excerpt, read_log
from strongroom.datastores.toolkit.tools import Tool, hide_secrets
from strongroom.errors import ConfigurationError, NoSpace, ServerFailed, ToolStopped

MARIADB = """\
2026-11-29 10:00:00 0 [ERROR] InnoDB: an error of an earlier start
2026-11-30  1:02:03 0 [Note] Starting MariaDB 10.11.14-MariaDB source revision 0 as process 4711
2026-11-30  1:02:03 0 [Note] InnoDB: Compressed tables use zlib 1.2.13
2026-11-30  1:02:03 0 [ERROR] InnoDB: Data file './ibdata1' uses page size 16384, but innodb_page_size is 8192
2026-11-30  1:02:03 0 [ERROR] Plugin 'InnoDB' init function returned error.
2026-11-30  1:02:03 0 [ERROR] Plugin 'InnoDB' registration as a STORAGE ENGINE failed.
2026-11-30  1:02:03 0 [ERROR] Unknown/unsupported storage engine: InnoDB
2026-11-30  1:02:03 0 [ERROR] Aborting
"""
POSTGRESQL = """\
2026-11-30 01:02:03.004 UTC [12] FATAL:  the database system is starting up
2026-11-30 01:02:03.004 UTC [11] FATAL:  could not load library "/usr/lib/x.so": no such file
2026-11-30 01:02:03.004 UTC [11] HINT:  Install it.
2026-11-30 01:02:03.005 UTC [10] LOG:  database system is shut down
"""
MYSQL = """\
2026-11-30T01:02:03.000000Z 0 [System] [MY-010116] [Server] /usr/sbin/mysqld (mysqld 8.4.0) starting as process 42
2026-11-30T01:02:04.000000Z 1 [ERROR] [MY-012526] [InnoDB] Upgrade after a crash is not supported.
2026-11-30T01:02:04.000000Z 0 [ERROR] [MY-010020] [Server] Data Dictionary initialization failed.
2026-11-30T01:02:04.000000Z 0 [ERROR] [MY-010119] [Server] Aborting
"""


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        (
            MARIADB,
            "[ERROR] InnoDB: Data file './ibdata1' uses page size 16384, but innodb_page_size is 8192",
        ),
        (POSTGRESQL, 'FATAL:  could not load library "/usr/lib/x.so": no such file HINT:  Install it.'),
        (MYSQL, "[ERROR] [MY-012526] [InnoDB] Upgrade after a crash is not supported."),
        ("2026-11-30 1:02:03 0 [Note] all is well\n", ""),
    ],
    ids=["mariadb", "postgresql", "mysql", "nothing"],
)
def test_the_first_cause_of_the_newest_start_is_found(log: str, cause: str) -> None:
    found = make_excerpt(log.splitlines())
    assert found.cause == cause
    said = found.describe("nobody answers")
    assert said.startswith(f"{cause} (nobody answers)" if cause else "nobody answers")
    assert said.endswith(log.splitlines()[-1])


def test_the_last_errors_are_found_for_a_server_that_has_served() -> None:
    old = [f"2026-11-2{day} 10:00:00 {day} [ERROR] an old error of day {day}" for day in range(5)]
    ready = "2026-11-19 10:00:00 0 [Note] mariadbd: ready for connections."
    found = make_excerpt([ready, *old, "2026-11-30 10:00:00 0 [ERROR] mysqld got signal 6 ;"])
    assert found.cause == "[ERROR] an old error of day 3; [ERROR] an old error of day 4; [ERROR] mysqld got signal 6 ;"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "GRANT USAGE ON *.* TO `x`@`%` IDENTIFIED BY PASSWORD '*23AE809DDACAF96AF0FD78ED04B6A265E05AA257'",
            "GRANT USAGE ON *.* TO `x`@`%` IDENTIFIED BY PASSWORD '***'",
        ),
        ("IDENTIFIED VIA ed25519 USING 'abc' OR unix_socket", "IDENTIFIED VIA ed25519 USING '***' OR unix_socket"),
        ("ALTER ROLE x PASSWORD 'it''s'", "ALTER ROLE x PASSWORD '***'"),
        ("ALTER ROLE x PASSWORD E'a\\'b;c'; SELECT 'd'", "ALTER ROLE x PASSWORD E'***'; SELECT 'd'"),
        (
            "CREATE USER x IDENTIFIED BY 'a;b', y IDENTIFIED BY \"c;d\"; SELECT 1",
            "CREATE USER x IDENTIFIED BY '***', y IDENTIFIED BY '***'; SELECT 1",
        ),
        ("CREATE USER x IDENTIFIED BY 'cut of", "CREATE USER x IDENTIFIED BY '***'"),
        ("CREATE USER x IDENTIFIED BY 'cut off\\", "CREATE USER x IDENTIFIED BY '***'"),
        ("stored as SCRAM-SHA-256$4096:salt$stored:server here", "stored as *** here"),
        ("Access denied for user 'x'@'localhost' (using password: YES)",) * 2,
        ('password authentication failed for user "x"',) * 2,
        ("GRANT PROXY ON ''@'%' TO 'root'@'localhost'",) * 2,
    ],
)
def test_passwords_and_hashes_are_hidden(text: str, shown: str) -> None:
    assert hide_secrets(text) == shown


def test_a_log_of_another_user_is_not_read(tmp_path: Path) -> None:
    log = tmp_path / "error.log"
    log.write_text(MYSQL)
    assert read_log(log, owner=os.geteuid()).cause
    assert not read_log(log, owner=os.geteuid() + 1).end
    (tmp_path / "link").symlink_to(log)
    assert not read_log(tmp_path / "link", owner=os.geteuid()).end


def test_a_private_server_that_was_killed_proves_nothing(tmp_path: Path) -> None:
    for command, expected in ((["sh", "-c", "kill -KILL $$"], ToolStopped), (["sh", "-c", "kill -SEGV $$"], ServerFailed)):
        tool = Tool(command, tmp_path / "log")
        assert tool.ends(5)
        assert type(explain_end(tool)) is expected
    lost = ServerFailed("the connection broke")
    tool = Tool(["sh", "-c", "kill -KILL $$"], tmp_path / "log")
    with pytest.raises(ToolStopped):
        _raise_if_stopped(tool, tmp_path / "log", lost)
    tool = Tool(["sh", "-c", "kill -SEGV $$"], tmp_path / "log")
    _raise_if_stopped(tool, tmp_path / "log", lost)
    (tmp_path / "log").write_text("LOG:  server process (PID 1) was terminated by signal 9: Killed\n")
    tool = Tool(["sleep", "60"], tmp_path / "log")
    with pytest.raises(ToolStopped):
        _raise_if_stopped(tool, tmp_path / "log", lost)
    tool.abort()


def test_a_private_server_without_space_or_memory_proves_nothing(tmp_path: Path) -> None:
    log, lost = tmp_path / "log", ServerFailed("the connection broke")
    full = 'echo "PANIC:  could not write to file: No space left on device"; kill -ABRT $$'
    tool = Tool(["sh", "-c", full], log)
    assert tool.ends(5)
    assert type(explain_end(tool)) is NoSpace
    with pytest.raises(NoSpace, match="PANIC"):
        _raise_if_stopped(tool, log, lost)
    log = tmp_path / "other log"
    tool = Tool(["sh", "-c", 'echo "FATAL:  could not map shared memory: Cannot allocate memory"; exit 1'], log)
    assert tool.ends(5)
    assert type(explain_end(tool)) is ToolStopped
    with pytest.raises(ToolStopped, match="the connection broke"):
        _raise_if_stopped(tool, log, lost)
    with pytest.raises(ConfigurationError, match="locale of a database is not installed"):
        _raise_if_stopped(tool, log, ServerFailed("database locale is incompatible with operating system"))
