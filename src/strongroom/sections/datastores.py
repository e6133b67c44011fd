"""The section ``[datastores]`` of the configuration."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from strongroom.sections.section import Section


class Datastores(Section):
    """Where to search for database programs, in addition to the usual directories."""

    mariadb: list[Path] = Field(
        default_factory=list, description="Directories with mariadbd and mariadb-backup, or with wsrep_sst_*."
    )
    mysql: list[Path] = Field(default_factory=list, description="Directories with mysqld and mysqlbinlog, or xtrabackup.")
    postgresql: list[Path] = Field(default_factory=list, description="Directories with postgres and pg_basebackup.")
    default: str = Field("mariadb", description="Datastore of a new instance if the request names none.")
