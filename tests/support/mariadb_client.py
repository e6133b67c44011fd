"""``mariadb-dump`` for tests, out of Debian's package ``mariadb-client``, which is not installed."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from support import venvs

_PROGRAM = "mariadb-dump"


def install() -> Path:
    """The directory of the program: the system's, or one that is fetched on first use (needs Debian's mirror).

    Raises RuntimeError when the package cannot be had.
    """
    if found := shutil.which(_PROGRAM):
        return Path(found).parent
    with venvs.cache() as directory:
        home = directory / "mariadb-client"
        if not (home / "bin" / _PROGRAM).exists():
            with tempfile.TemporaryDirectory() as work:
                venvs.run("env", f"--chdir={work}", "apt-get", "download", "-qq", "mariadb-client")
                (package,) = Path(work).glob("*.deb")
                venvs.run("dpkg-deb", "--extract", str(package), f"{work}/all")
                (home / "bin").mkdir(parents=True, exist_ok=True)
                shutil.copy2(f"{work}/all/usr/bin/{_PROGRAM}", home / "bin" / _PROGRAM)
    return home / "bin"


def require() -> Path:
    """The same; the test is skipped when the package cannot be had."""
    try:
        return install()
    except RuntimeError as error:
        pytest.skip(f"mariadb-dump cannot be had from Debian: {error}")
