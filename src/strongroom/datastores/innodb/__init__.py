"""What MariaDB and MySQL share: connections, option files, users, the witness."""
