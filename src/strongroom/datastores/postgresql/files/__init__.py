"""Formats of the files in a PostgreSQL data directory."""
