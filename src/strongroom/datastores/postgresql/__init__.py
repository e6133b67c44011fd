"""PostgreSQL: pg_basebackup as a tar stream, restored by a reader of our own."""

from strongroom.datastores.postgresql.driver import DATASTORE

__all__ = ["DATASTORE"]
