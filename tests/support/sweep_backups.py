"""A program that looks at all databases and sweeps, as the service does: for tests with several of them on one database."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from strongroom.catalog import Job, open_catalog
from strongroom.flows import Site, open_site
from strongroom.flows.chores.retention import retain
from strongroom.flows.kinds import deletion
from strongroom.flows.loop import begin_job, run_step, settle_job
from strongroom.settings import load
from strongroom.storage import open_store


def main(data_dir: str, url: str, store: str, dies_at: str = "") -> None:
    """Sweep what is due and run the jobs of this process, then print how many there were.

    ``dies_at``: kill this process when it has removed the objects of so many backups, before that is recorded.
    """
    settings = load(service={"data_dir": Path(data_dir), "database_url": url})
    site = open_site(settings, open_catalog(settings), open_store(settings.storage, Path(store)), {})
    started: list[Job] = []
    site.queue.start = started.append
    delete, deleted = deletion.delete_artifact, []

    def delete_or_die(*arguments: object) -> None:
        delete(*arguments)  # type: ignore[arg-type]
        deleted.append(arguments)
        if len(deleted) == int(dies_at or 0):
            os.kill(os.getpid(), signal.SIGKILL)

    deletion.delete_artifact = delete_or_die  # type: ignore[assignment]
    print("ready", flush=True)
    sys.stdin.readline()
    retain(site)
    for job in started:
        run(site, job.id)
    print(len(started), flush=True)


def run(site: Site, job_id: str) -> None:
    """Run a deletion from its first step, as a service does that takes it over."""

    async def do() -> None:
        await begin_job(site, job_id)
        await settle_job(site, job_id, await run_step(site, job_id, "delete_backup", 0))

    asyncio.run(do())


if __name__ == "__main__":
    main(*sys.argv[1:])
