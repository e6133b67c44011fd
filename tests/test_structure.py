"""The script that limits the size of modules, packages and protocols."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "structure.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)


def test_the_project_keeps_to_the_limits() -> None:
    done = run()
    assert (done.returncode, done.stderr) == (0, "")


def test_each_limit_is_enforced(tmp_path: Path) -> None:
    inner, series = tmp_path / "src/strongroom/inner", tmp_path / "src/strongroom/migrations/versions"
    for package in (inner, series):
        package.mkdir(parents=True)
        for number in range(16):
            (package / f"m{number}.py").write_text("X = 1\n")
        (package / "__init__.py").touch()
    for folder, name in (("docs", "page.md"), ("docs", "cli.md"), ("tests", "conftest.py")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_text("\n" * 401)
    (inner / "m0.py").write_text("X = 1\n" * 401)
    methods = "".join(f"    def m{number}(self) -> None: ...\n" for number in range(9))
    (inner / "m1.py").write_text(f"from typing import Protocol\n\nclass Wide(Protocol):\n{methods}")
    done = run(str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "inner/m0.py: 401 lines; at most 400",
        "docs/page.md: 401 lines; at most 400",
        "tests/conftest.py: 401 lines; at most 400",
        "inner: 16 modules; at most 15",
        "inner/m1.py:Wide: 9 methods; at most 8",
    ]
