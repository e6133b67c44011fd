"""Servers of PostgreSQL: configuration, connections, facts, administration."""
