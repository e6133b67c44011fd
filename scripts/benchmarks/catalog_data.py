"""Fills a catalog: projects with instances, backups and the jobs that took them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import insert

from strongroom.catalog import Backup, Instance, Job, now, open_catalog
from strongroom.settings import load

LINKS = 9
"""Incremental backups per full backup."""


@dataclass
class Project:
    """A project with its instances and backups."""

    name: str
    instances: list[str] = field(default_factory=list)
    backups: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    """Names of the backups."""


def fill(catalog_dir: Path, projects: int, instances: int, backups: int) -> list[Project]:
    """Insert ``instances`` and ``backups`` in total, in chains of a full and nine incrementals, evenly over the projects."""
    made = [Project(f"project-{number}") for number in range(projects)]
    began = datetime.now(UTC) - timedelta(days=30)
    catalog = open_catalog(load(service={"data_dir": catalog_dir}))
    rows: dict[type[Instance] | type[Backup] | type[Job], list[dict[str, object]]] = {Instance: [], Backup: [], Job: []}
    for number in range(instances):
        project = made[number % projects]
        instance, lineage, created = str(uuid.uuid4()), str(uuid.uuid4()), began + timedelta(minutes=number)
        project.instances.append(instance)
        common = {"project": project.name, "host": "local", "datastore": "mariadb", "series": "10.11"}
        rows[Instance].append(
            {
                **common,
                "id": instance,
                "name": f"mysql-{number}",
                "version_number": "10.11.19",
                "flavor": "d2",
                "volume_size": 10,
                "state": "running",
                "healthy": True,
                "address": f"127.9.{number >> 8}.{number & 255}",
                "port": 3306,
                "socket": f"/var/lib/strongroom/instances/{instance}/run/mysqld.sock",
                "lineage": lineage,
                "data_bytes": 3 * 1024**3,
                "old_data": [],
                "request": {},
                "created": created,
                "updated": created,
                "seen": now() + timedelta(days=1),  # so that the agent, which does not know them, does not change them
            }
        )
        chain: list[str] = []
        for turn in range(backups // instances):
            backup, taken = str(uuid.uuid4()), created + timedelta(hours=6 * (1 + turn))
            if len(chain) > LINKS:
                chain = []
            project.backups.append(backup)
            project.names.append(f"mysql-{number}-{turn}")
            rows[Backup].append(
                {
                    **{key: value for key, value in common.items() if key != "host"},
                    "id": backup,
                    "name": project.names[-1],
                    "instance_id": instance,
                    "instance_name": f"mysql-{number}",
                    "container": "database_backups",
                    "kind": "incremental" if chain else "full",
                    "parent_id": chain[-1] if chain else None,
                    "chain_id": chain[0] if chain else backup,
                    "status": "COMPLETED",
                    "server_version": "10.11.19-MariaDB",
                    "location": f"file:///var/lib/strongroom/store/database_backups/{backup}",
                    "lineage": lineage,
                    "positions": {"from_lsn": 0, "to_lsn": 10**7 * turn, "gtid": "0-1-2", "binlog": "binlog.000001", "offset": 4},
                    "data_size": 3 * 1024**3,
                    "raw_size": 2 * 1024**3,
                    "stored_size": 1024**3,
                    "created": taken,
                    "updated": taken,
                    "started": taken,
                    "finished": taken + timedelta(minutes=1),
                }
            )
            chain.append(backup)
            rows[Job].append(
                {
                    "id": str(uuid.uuid4()),
                    "project": project.name,
                    "kind": "backup",
                    "status": "succeeded",
                    "host": "local",
                    "instance_id": instance,
                    "instance_name": f"mysql-{number}",
                    "backup_id": backup,
                    "params": {},
                    "output": {},
                    "created": taken,
                    "finished": taken + timedelta(minutes=1),
                }
            )
    with catalog.write() as session:
        for table, values in rows.items():
            session.execute(insert(table), values)
    catalog.close()
    return made
