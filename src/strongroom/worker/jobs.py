"""The jobs of a worker, and the fields of their ``output``.

* backup: ``manifest`` (without its segments), ``manifest_sha256``, ``segments`` (how many), ``reason`` (why a full was taken, or
  null);
* restore: ``chain`` (ids), ``positions``, ``facts`` (as recorded by the source server), ``raw_size``, ``stored_size``,
  ``data_size`` (bytes), ``server_version``;
* verify: ``chain`` (ids), ``links`` (how many backups were read), ``segments``, ``raw_size``, ``stored_size`` (sums over the
  backups), ``files`` (of the newest), ``level``, ``results`` (a LinkResult each, even if the job fails), and with ``prepare``
  ``prepared`` (as for a restore; with ``start`` also ``tables``: how many a private server has read);
* import: ``backups`` (a ForeignBackup each, with hashes, sizes and positions), ``files``;
* initialize: nothing else.

All have ``seconds``, by phase; backup, restore and verify also have ``warnings``, a list of sentences.
"""

from __future__ import annotations

from typing import Any

from strongroom.datastores import get
from strongroom.worker._backup import back_up
from strongroom.worker._events import EventLog
from strongroom.worker._import import read_foreign
from strongroom.worker._restore import restore
from strongroom.worker._verify import verify
from strongroom.worker.spec import BackupJob, ImportJob, InitializeJob, RestoreJob, VerifyJob, WorkerSpec


def run_job(spec: WorkerSpec, events: EventLog) -> dict[str, Any]:
    """Run the job. If it raises, nothing that it began is left running or in the store."""
    match spec.job:
        case BackupJob() as job:
            return back_up(spec, job, events)
        case RestoreJob() as job:
            return restore(spec, job, events)
        case VerifyJob() as job:
            return verify(spec, job, events)
        case ImportJob() as job:
            return read_foreign(spec, job, events)
        case InitializeJob():
            return _initialize(spec, events)


def _initialize(spec: WorkerSpec, events: EventLog) -> dict[str, Any]:
    assert spec.server is not None
    events.phase("initialize")
    data_dir = spec.target_dir or spec.server.data_dir
    get(spec.server.datastore).servers.initialize(spec.server, data_dir, spec.work_dir / "initialize.log")
    events.close()
    return {"seconds": events.seconds}
