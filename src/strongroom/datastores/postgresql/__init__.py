"""PostgreSQL: pg_basebackup as a tar stream, restored by a reader of our own."""

from strongroom.datastores.postgresql.driver import PostgreSQL

__all__ = ["PostgreSQL"]
