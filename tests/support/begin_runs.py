"""A program that begins due runs of policies, as the service does: for tests with several of them on one database."""

from __future__ import annotations

import os
import signal
import sys
from datetime import datetime
from pathlib import Path

from strongroom.catalog import Job, open_catalog
from strongroom.flows import open_site
from strongroom.flows.policies.tick import begin_due_runs
from strongroom.flows.policies.turn import Turn
from strongroom.settings import load
from strongroom.storage import open_store


def main(data_dir: str, url: str, at: str, dies_at: str = "") -> None:
    """Begin what is due at this time, then print how many jobs this process started.

    ``dies_at``: kill this process in the transaction of its run with this number, when the job is written.
    """
    settings = load(service={"data_dir": Path(data_dir), "database_url": url})
    site = open_site(settings, open_catalog(settings), open_store(settings.storage, Path(data_dir) / "store"), {})
    started: list[str] = []
    site.queue.start = lambda job: started.append(job.id)
    take, taken = Turn.take, []

    def take_or_die(turn: Turn) -> Job | None:
        job = take(turn)
        turn.session.flush()
        taken.append(turn.row.database_id)
        if len(taken) == int(dies_at or 0):
            os.kill(os.getpid(), signal.SIGKILL)
        return job

    Turn.take = take_or_die  # type: ignore[method-assign]
    print("ready", flush=True)
    sys.stdin.readline()
    begin_due_runs(site, datetime.fromisoformat(at))
    print(len(started), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
