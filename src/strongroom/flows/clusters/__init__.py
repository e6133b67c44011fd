"""Galera clusters: their nodes, the runs that give them data, undo, recovery, fencing, backups."""
