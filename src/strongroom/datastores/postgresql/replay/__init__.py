"""Rolls a restored backup forward with archived WAL, exactly to a position."""
