"""What ``scripts/setup`` would install, by what it was asked for. Nothing is installed here."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

SETUP = Path(__file__).resolve().parents[2] / "scripts" / "setup"


@pytest.mark.parametrize(
    ("databases", "wanted", "unwanted"),
    [
        ("mariadb", {"mariadb-server-core", "galera-4", "zstd"}, {"postgresql"}),
        ("postgresql", {"postgresql", "zstd"}, {"mariadb-server-core", "mariadb-backup", "galera-4", "rsync"}),
        ("mariadb postgresql", {"mariadb-server-core", "postgresql"}, set()),
    ],
)
def test_only_the_packages_of_the_wanted_databases(databases: str, wanted: set[str], unwanted: set[str]) -> None:
    text = SETUP.read_text()
    functions = [
        re.search(rf"^{name}\(\) {{.*?^}}|^{name}\(\) {{.*?}}$", text, re.M | re.S) for name in ("needed_packages", "wants")
    ]
    program = "\n".join(found[0] for found in functions if found)
    program += f"\nhas() {{ return 1; }}; compgen() {{ return 1; }}; databases=({databases}); ROOT=/nowhere; needed_packages"
    packages = set(subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True).stdout.split())
    assert wanted <= packages
    assert not unwanted & packages


def test_what_it_does_not_know_is_refused() -> None:
    for words, said in ((["--only", "oracle"], "--only takes mariadb or postgresql"), (["--all"], "usage: scripts/setup")):
        refused = subprocess.run([SETUP, *words], capture_output=True, text=True, check=False)
        assert refused.returncode == 1 and said in refused.stderr
