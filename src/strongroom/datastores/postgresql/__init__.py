"""PostgreSQL: pg_basebackup as a tar stream, restored by a reader of our own."""

from strongroom.datastores.postgresql._driver import PostgreSQL

__all__ = ["PostgreSQL"]
