"""Strongroom: database backup and restore that people can trust with everything they have."""

__version__ = "0.1.0"
