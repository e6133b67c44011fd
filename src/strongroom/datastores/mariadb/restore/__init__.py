"""Restores of MariaDB."""
