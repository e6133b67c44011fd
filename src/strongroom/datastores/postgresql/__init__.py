"""PostgreSQL: pg_basebackup as a tar stream, restored by Strongroom's own reader."""
