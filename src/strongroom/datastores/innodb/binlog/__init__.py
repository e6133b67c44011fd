"""The binary log that MariaDB and MySQL share: its events, its transactions, and reading it from a running server."""
