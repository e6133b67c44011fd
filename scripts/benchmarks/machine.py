"""The machine: its hardware and programs, and how fast it reads, writes and compresses the data of a case."""

from __future__ import annotations

import mmap
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import zstandard

_SLICE = 32 << 20
_SAMPLE = 16
"""Maximum number of slices to measure the codec."""
_WRITTEN = 512 << 20
"""Maximum number of bytes written to measure the disk."""
_PROGRAMS = {
    "MariaDB": "mariadbd --version",
    "mariadb-backup": "mariadb-backup --version",
    "PostgreSQL": "/usr/lib/postgresql/15/bin/postgres --version",
    "pgBackRest": "pgbackrest version",
    "Barman": "barman --version",
    "zstd": "zstd --version",
    "gzip": "gzip --version",
}


@dataclass(frozen=True)
class Rates:
    """Bytes per second: ``read`` from the page cache, ``write`` to synced files, the codec on all cores."""

    read: float
    write: float
    compress: float
    decompress: float


def describe() -> dict[str, str]:
    """The machine's properties for the page."""
    cpu = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    system = re.search(r'^PRETTY_NAME="(.+)"$', Path("/etc/os-release").read_text(), re.MULTILINE)
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "processor": cpu[1] if cpu else platform.machine(),
        "memory": f"{int(memory[1]) / 1024**2:.0f} GiB" if memory else "?",
        "system": f"{system[1] if system else '?'}, Linux {platform.release()}",
    }


def versions() -> dict[str, str]:
    """The versions of the installed programs."""
    found = {"Python": platform.python_version()}
    for name, command in _PROGRAMS.items():
        with suppress(OSError):
            ran = subprocess.run(command.split(), capture_output=True, text=True, check=False)
            if number := re.search(r"\d+\.\d+[\w.+~-]*", ran.stdout + ran.stderr):
                found[name] = number[0]
    return found


def measure(data: Path, place: Path, level: int = 1) -> Rates:
    """Measure the rates of this machine with the largest files below ``data``."""
    files = sorted((path for path in data.rglob("*") if path.is_file()), key=lambda path: -path.stat().st_size)
    slices = list(islice(_slices(files), _SAMPLE))
    size = sum(map(len, slices))
    read = 0
    began = time.monotonic()
    for path in files:
        with path.open("rb", buffering=0) as file:
            while got := len(file.read(1 << 22)):
                read += got
    reading = read / (time.monotonic() - began)
    frames, compressing = _side_by_side(lambda piece: zstandard.ZstdCompressor(level=level).compress(piece), slices)
    del slices
    _, decompressing = _side_by_side(lambda frame: zstandard.ZstdDecompressor().decompress(frame), frames)
    return Rates(reading, _writing(frames, place), size / compressing, size / decompressing)


def _slices(files: Iterable[Path]) -> Iterable[bytes]:
    """Slices of 32 MiB of the files, one after the other, like the segments of a backup."""
    piece = b""
    for path in files:
        with path.open("rb") as file:
            while got := file.read(_SLICE - len(piece)):
                piece += got
                if len(piece) == _SLICE:
                    yield piece
                    piece = b""
    if piece:
        yield piece


def _side_by_side(work: Callable[[bytes], bytes], pieces: list[bytes]) -> tuple[list[bytes], float]:
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        began = time.monotonic()
        done = list(pool.map(work, pieces))
        return done, time.monotonic() - began


def _writing(pieces: list[bytes], place: Path) -> float:
    """The best write rate: one file or one per core; through the page cache with early flushes, or with direct writes."""
    cores = len(os.sched_getaffinity(0))
    return max(_synced(write, place, files) for write in (partial(_cached, pieces), _past) for files in 2 * [1, cores])


def _synced(write: Callable[[Path, int], int], place: Path, files: int) -> float:
    os.sync()
    paths = [place / f"written-{number}" for number in range(files)]
    with ThreadPoolExecutor(files) as pool:
        began = time.monotonic()
        total = sum(pool.map(lambda path: write(path, _WRITTEN // files), paths))
        seconds = time.monotonic() - began
    for path in paths:
        path.unlink()
    return total / seconds


def _cached(pieces: list[bytes], path: Path, size: int) -> int:
    written = unsynced = 0
    with path.open("wb", buffering=0) as file:
        while written < size:
            for piece in pieces:
                unsynced += file.write(piece)
                if unsynced >= _SLICE:
                    os.fdatasync(file.fileno())
                    written, unsynced = written + unsynced, 0
        os.fsync(file.fileno())
    return written + unsynced


def _past(path: Path, size: int) -> int:
    written = 0
    with mmap.mmap(-1, _SLICE // 8) as piece:
        piece.write(os.urandom(len(piece)))
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_DIRECT | os.O_CLOEXEC, 0o600)
        except OSError:  # not supported by this file system
            path.touch()
            return 0
        try:
            while written < size:
                written += os.write(fd, piece)
            os.fsync(fd)
        finally:
            os.close(fd)
    return written
