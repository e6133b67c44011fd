"""PostgreSQL 13 and later, single servers."""

from __future__ import annotations

import signal

from strongroom.datastores.postgresql import backups, logs, profiles, restores, servers
from strongroom.datastores.postgresql.backup.describe import SIDE_FILES
from strongroom.datastores.postgresql.files.manifest import KEEP
from strongroom.datastores.postgresql.server.admin import Databases, Superuser, Users
from strongroom.datastores.postgresql.server.outside import ServerPlacement
from strongroom.datastores.protocol.administration import Administration
from strongroom.datastores.protocol.datastore import Capabilities, Datastore

_PORT = 5432

DATASTORE = Datastore(
    name="postgresql",
    default_port=_PORT,
    default_user="postgres",
    socket_name=f".s.PGSQL.{_PORT}",
    stop_signal=signal.SIGINT,  # fast shutdown; with SIGTERM the server waits for all clients
    capabilities=Capabilities(incremental=True, log_apply=False, side_files=SIDE_FILES, keep=KEEP, log_names_tables=False),
    servers=servers,
    backups=backups,
    restores=restores,
    profiles=profiles,
    placement=ServerPlacement(),
    administration=Administration(Databases(), Users(), Superuser(), users_have_hosts=False),
    logs=logs,
)
