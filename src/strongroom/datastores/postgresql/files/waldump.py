"""Uses ``pg_waldump`` to find out whether a part of the WAL creates or drops a tablespace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from strongroom.datastores.postgresql.files import lsn
from strongroom.datastores.protocol.servers import Version
from strongroom.datastores.toolkit.tools import Tool


def find_waldump(version: Version) -> Path | None:
    """The installed program; none if the host lacks it."""
    found = version.programs["server"].with_name("pg_waldump")
    return found if found.is_file() else None


def has_tablespace_records(waldump: Path, folder: Path, names: Sequence[str], span: tuple[int, int, int], work_dir: Path) -> bool:
    """Whether the WAL in the files ``names`` creates or drops a tablespace. Raises ToolFailed if it cannot be read.

    ``span`` is timeline, start and stop. The program reads the segment size from an arbitrary file of its directory, and a server
    keeps files there that it has created but not written yet. Therefore it gets a directory with links to ``names`` only. The
    links are named after one timeline: the program does not follow a change of the timeline, and each file of ``names`` contains
    the WAL of the last timeline at its position.
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
