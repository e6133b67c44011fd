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
    inner = tmp_path / "inner"
    inner.mkdir()
    for number in range(16):
        (inner / f"m{number}.py").write_text("X = 1\n")
    (inner / "__init__.py").touch()
    (inner / "m0.py").write_text("X = 1\n" * 401)
    methods = "".join(f"    def m{number}(self) -> None: ...\n" for number in range(9))
    (inner / "m1.py").write_text(f"from typing import Protocol\n\nclass Wide(Protocol):\n{methods}")
    done = run(str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "inner/m0.py: 401 lines; at most 400",
        "inner: 16 modules; at most 15",
        "inner/m1.py:Wide: 9 methods; at most 8",
    ]
