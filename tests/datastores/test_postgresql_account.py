"""The user for an adopted server: from a password file, a service file, or the owner of the socket."""

from __future__ import annotations

import os
import pwd
import socket
import threading
from pathlib import Path

import pytest

from strongroom.datastores import Server
from strongroom.datastores.postgresql.server.account import Account, connection_options, find_account
from strongroom.datastores.toolkit.peer import acting_as
from strongroom.errors import ConfigurationError, IsStandby, NoConnections, ServerFailed
from support import postgresql
from support.postgresql import describe


def adopted(place: Path, text: str | None = None, **where: object) -> Server:
    path = place / "credentials"
    if text is not None:
        path.write_text(text)
        where["credentials_file"] = path
    base = {"runtime": "adopted", "socket": None, "address": None, "port": None}
    return describe(place, "a", None).model_copy(update=base | where)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("*:*:*:backup:secret\n", Account("backup", "secret")),
        (
            "other:5432:*:wrong:x\n# a:b\n10.0.0.7:5433:*:port:x\n10.0.0.7:5432:*:backup:a\\:b\\\\c\r\n",
            Account("backup", "a:b\\c"),
        ),
        ("*:*:*:*:everybody\n10.0.0.7:*:*:backup:two\n", Account("backup", "two")),
        (
            "[shop]\nhost=10.0.0.7\nuser=backup\npassword = with spaces = in it\n[other]\nuser=x\n",
            Account("backup", "with spaces = in it"),
        ),
        ("# made by hand\n[shop]\nuser=backup\n", Account("backup", None)),
    ],
)
def test_files(place: Path, text: str, found: Account) -> None:
    server = adopted(place, text, address="10.0.0.7", port=5432)
    assert find_account(server) == found
    assert "secret" not in repr(find_account(server))


@pytest.mark.parametrize("text", ["", "nonsense\n", "other:5432:*:backup:x\n", "*:*:*:*:x\n", "[shop]\npassword=x\n"])
def test_files_without_an_account(place: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match="names no account"):
        find_account(adopted(place, text, address="10.0.0.7", port=5432))
    with pytest.raises(ConfigurationError, match="does not exist"):
        find_account(adopted(place, address="10.0.0.7", credentials_file=place / "none"))


def test_localhost_is_the_socket(place: Path) -> None:
    assert find_account(adopted(place, "localhost:5432:*:backup:x\n", socket=place)) == Account("backup", "x")
    assert find_account(adopted(place, "localhost:5433:*:backup:x\n", socket=place / ".s.PGSQL.5433")) == Account("backup", "x")


def test_a_password_is_never_in_a_command(place: Path) -> None:
    options = connection_options(adopted(place, "*:*:*:back:up:ignored\n*:*:*:backup:a\\:b\\\\c\n", address="10.0.0.7"), place)
    assert not any("a:b" in option or "a\\:b" in option for option in options)
    assert {"--host=10.0.0.7", "--port=5432", "--username=backup", "--no-password"} <= set(options)
    path = place / "pgpass"
    assert f"--dbname=passfile='{path}'" in options
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("*:*:*:backup:a\\:b\\\\c\n", 0o600)


@pytest.mark.root
def test_root_is_the_owner_of_the_socket(place: Path) -> None:
    entry = pwd.getpwnam("nobody")
    path = place / ".s.PGSQL.5432"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        os.chown(path, entry.pw_uid, entry.pw_gid)
        assert find_account(adopted(place, socket=place)) == Account("nobody")


@pytest.mark.root
def test_only_the_calling_thread_acts_as_another_user() -> None:
    uid = pwd.getpwnam("nobody").pw_uid
    first, second = threading.Event(), threading.Event()
    seen: list[int] = []

    def other() -> None:
        first.wait(30)
        seen.append(effective())
        second.set()

    def effective() -> int:
        status = Path(f"/proc/self/task/{threading.get_native_id()}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("Uid:")).split()[2])

    thread = threading.Thread(target=other)
    thread.start()
    with acting_as(uid):
        assert effective() == uid
        with pytest.raises(PermissionError):
            Path("/root").iterdir().__next__()
        first.set()
        second.wait(30)
    thread.join()
    assert seen == [0]
    assert effective() == 0
    with pytest.raises(KeyError), acting_as(uid):
        raise KeyError
    assert effective() == 0


def test_the_cause_of_a_failed_login_is_reported(place: Path) -> None:
    with postgresql.running(place) as own:
        socket_directory = own.server.socket.parent if own.server.socket else place
        own.sql("CREATE ROLE narrow LOGIN PASSWORD 'p' CONNECTION LIMIT 0", "postgres")
        own.sql("CREATE ROLE keeper LOGIN PASSWORD 'p'", "postgres")

        def refusal(user: str, password: str = "p", **where: object) -> tuple[type[Exception], str]:
            theirs = adopted(
                place, f"*:*:*:{user}:{password}\n", **{"socket": own.server.socket, "data_dir": own.server.data_dir, **where}
            )
            with pytest.raises((ConfigurationError, ServerFailed)) as error:
                postgresql.driver.servers.read_facts(theirs)
            assert error.value.remedy and "wrong" not in error.value.message
            return type(error.value), error.value.message

        kind, said = refusal("keeper", "wrong")
        assert kind is ConfigurationError and 'password authentication failed for user "keeper"' in said
        kind, said = refusal("narrow")
        assert (kind, "has no free connection" in said) == (NoConnections, True), said
        kind, said = refusal("nobody_here")
        assert kind is ConfigurationError and "refused the account 'nobody_here'" in said
        kind, said = refusal("keeper", socket=place / "none" / ".s.PGSQL.5432")
        assert kind is ServerFailed and f"there is no socket .s.PGSQL.5432 in {place / 'none'}" in said
        assert socket_directory.is_dir()

        own.end()
        signal_file = own.server.data_dir / "standby.signal"
        signal_file.touch()
        os.chown(signal_file, own.server.data_dir.stat().st_uid, own.server.data_dir.stat().st_gid)
        with pytest.raises(IsStandby, match="is a standby"):
            own.start(wait=5)
        assert own.process is not None and own.process.poll() is None
