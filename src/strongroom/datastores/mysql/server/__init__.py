"""Servers of MySQL: configuration, keyring, versions, facts."""
