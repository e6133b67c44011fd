"""A program that begins due runs of policies, as the service does: for tests with several of them on one database."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path

from strongroom.catalog import open_catalog
from strongroom.flows import open_site
from strongroom.flows.policies.tick import begin_due_runs
from strongroom.settings import load
from strongroom.storage import open_store


def main(data_dir: str, url: str, at: str) -> None:
    """Begin what is due at this time, then print how many jobs this process started."""
    settings = load(service={"data_dir": Path(data_dir), "database_url": url})
    site = open_site(settings, open_catalog(settings), open_store(settings.storage, Path(data_dir) / "store"), {})
    started: list[str] = []
    site.queue.start = lambda job: started.append(job.id)
    print("ready", flush=True)
    sys.stdin.readline()
    begin_due_runs(site, datetime.fromisoformat(at))
    print(len(started), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
