"""Rolls restored data of MariaDB forward."""
