"""MariaDB: mariadb-backup and mbstream, log-applying incrementals."""
