"""Rolls restored data of MySQL forward."""
