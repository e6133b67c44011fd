"""PostgreSQL: pg_basebackup as a tar stream, restored by a reader of our own."""
