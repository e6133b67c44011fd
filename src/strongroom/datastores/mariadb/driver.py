"""MariaDB 10.5 and later, single servers and nodes of Galera clusters."""

from __future__ import annotations

import signal

from strongroom.datastores.innodb.admin import Databases, Superuser, Users
from strongroom.datastores.innodb.checkpoints import SIDE_FILES
from strongroom.datastores.mariadb import backups, logs, profiles, restores, servers
from strongroom.datastores.mariadb.backup.redo import LOG_FILE
from strongroom.datastores.mariadb.galera import nodes, running
from strongroom.datastores.mariadb.server.outside import ServerPlacement
from strongroom.datastores.protocol.administration import Administration
from strongroom.datastores.protocol.clusters import Clusters
from strongroom.datastores.protocol.datastore import Capabilities, Datastore

_ACCOUNTS = "SELECT User, Host FROM mysql.global_priv WHERE JSON_VALUE(Priv, '$.is_role') IS NOT TRUE"

DATASTORE = Datastore(
    name="mariadb",
    default_port=3306,
    default_user="mysql",
    socket_name="mysqld.sock",
    stop_signal=signal.SIGTERM,
    capabilities=Capabilities(incremental=True, log_apply=True, side_files=SIDE_FILES, keep_end=frozenset([LOG_FILE])),
    servers=servers,
    backups=backups,
    restores=restores,
    profiles=profiles,
    placement=ServerPlacement(),
    administration=Administration(Databases(), Users(_ACCOUNTS, 80, keeps_spaces=True), Superuser()),
    clusters=Clusters(nodes, running),
    logs=logs,
)
