"""Asks ``pg_waldump`` whether a tablespace was made or dropped in a part of the WAL."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from strongroom.datastores.postgresql.files import lsn
from strongroom.datastores.protocol.servers import Version
from strongroom.datastores.toolkit.tools import Tool


def find_waldump(version: Version) -> Path | None:
    """The installed program; none when the host lacks it."""
    found = version.programs["server"].with_name("pg_waldump")
    return found if found.is_file() else None


def has_tablespace_records(waldump: Path, folder: Path, names: Sequence[str], span: tuple[int, int, int], work_dir: Path) -> bool:
    """Whether the WAL of the files ``names`` makes or drops a tablespace. Raises ToolFailed when it cannot be read.

    ``span`` is timeline, start and stop. The program reads the segment size from any file of the directory that it is given, and
    a server keeps files there that it has created and not written yet. So it sees a directory with links to ``names`` only. The
    links have the names of one timeline: the program does not follow a change of the timeline, and each file of ``names`` holds
    what the last timeline has at its place.
    """
    timeline, start, stop = span
    view, found = work_dir / "waldump", work_dir / "tablespaces"
    view.mkdir(mode=0o700, exist_ok=True)
    for old in view.iterdir():
        old.unlink()
    for name in names:
        (view / f"{timeline:08X}{name[8:]}").symlink_to(folder / name)
    options = ["--rmgr=Tablespace", "--limit=1", f"--path={view}", f"--timeline={timeline}"]
    with found.open("wb") as file:
        argv: list[str | Path] = [waldump, *options, f"--start={lsn.format_lsn(start)}", f"--end={lsn.format_lsn(stop)}"]
        tool = Tool(argv, work_dir / "tablespaces.log", stdout=file.fileno())
        try:
            tool.check()
        finally:
            tool.abort()
    return bool(found.stat().st_size)
