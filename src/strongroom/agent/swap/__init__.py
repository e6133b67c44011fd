"""Restored data takes the place of a server's data, inside its data directory and outside."""
