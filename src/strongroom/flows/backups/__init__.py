"""Backups in the catalog and in the store: chains, sources, seals, labels, verifications, the end of artifacts."""
