"""Backups, and the containers that they go to."""
