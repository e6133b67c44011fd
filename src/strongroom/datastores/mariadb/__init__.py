"""MariaDB: mariadb-backup and mbstream, log-applying incrementals."""

from strongroom.datastores.mariadb.driver import MariaDB

__all__ = ["MariaDB"]
