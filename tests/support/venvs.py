"""Virtual environments for programs that only tests use: made on first use (needs a package index), kept in a cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def cache() -> Iterator[Path]:
    """The directory of all that tests keep between runs, while nobody else changes it."""
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "strongroom-tests"
    path.mkdir(parents=True, exist_ok=True)
    with (path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield path


def interpreter(name: str, *requirements: str) -> Path:
    """The Python of an environment that has the requirements. Raises RuntimeError when they cannot be had."""
    digest = hashlib.sha256("\n".join(requirements).encode()).hexdigest()[:8]
    with cache() as directory:
        home = directory / f"{name}-{digest}"
        python = str(home / "bin" / "python")
        ready = home / "ready"  # a directory cannot be made elsewhere and renamed: the programs in it know where they are
        if not ready.exists():
            shutil.rmtree(home, ignore_errors=True)
            run(sys.executable, "-m", "venv", "--without-pip", str(home))
            if uv := shutil.which("uv"):
                run(uv, "pip", "install", "--quiet", "--python", python, *requirements)
            else:
                run(python, "-m", "ensurepip")
                run(python, "-m", "pip", "install", "--quiet", *requirements)
            ready.touch()
    return Path(python)


def run(*command: str) -> None:
    """Run it. Raises RuntimeError with its last words."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-400:]}")
