"""MariaDB: mariadb-backup and mbstream, log-applying incrementals."""

from strongroom.datastores.mariadb.driver import DATASTORE

__all__ = ["DATASTORE"]
