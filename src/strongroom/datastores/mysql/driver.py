"""MySQL 8.0.17 and later, single servers."""

from __future__ import annotations

import signal

from strongroom.datastores.innodb.admin import Databases, Superuser, Users
from strongroom.datastores.innodb.checkpoints import SIDE_FILES
from strongroom.datastores.mysql import backups, logs, profiles, restores, servers
from strongroom.datastores.mysql.server.outside import ServerPlacement
from strongroom.datastores.protocol.administration import Administration
from strongroom.datastores.protocol.datastore import Capabilities, Datastore

_ACCOUNTS = (
    "SELECT User, Host FROM mysql.user"  # a role is an account that nobody can log in with
    " WHERE NOT (account_locked = 'Y' AND password_expired = 'Y' AND authentication_string = '')"
)

DATASTORE = Datastore(
    name="mysql",
    default_port=3306,
    default_user="mysql",
    socket_name="mysqld.sock",
    stop_signal=signal.SIGTERM,
    capabilities=Capabilities(incremental=True, log_apply=True, side_files=SIDE_FILES, aio_events=2305),
    servers=servers,
    backups=backups,
    restores=restores,
    profiles=profiles,
    placement=ServerPlacement(),
    administration=Administration(Databases(), Users(_ACCOUNTS, 32, keeps_spaces=False), Superuser()),
    logs=logs,
)
