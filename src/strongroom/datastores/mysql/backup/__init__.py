"""Backups of MySQL: the clone protocol, the binary log, XtraBackup."""
