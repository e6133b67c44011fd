"""Backups by OpenStack Trove and Kolla."""
