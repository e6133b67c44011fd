"""Backups in the catalog and in the store: chains, sources, seals, verifications, the end of artifacts."""
