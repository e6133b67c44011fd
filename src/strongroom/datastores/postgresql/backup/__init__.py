"""Backups of PostgreSQL: full, incremental by blocks, incremental by WAL."""
