"""Backups of MariaDB by mariadb-backup."""
