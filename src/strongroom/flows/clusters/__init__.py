"""Galera clusters: their nodes, the runs that create or restore them, undo, recovery, fencing, backups."""
