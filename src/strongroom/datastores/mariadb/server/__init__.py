"""Servers of MariaDB: configuration, versions, facts."""
