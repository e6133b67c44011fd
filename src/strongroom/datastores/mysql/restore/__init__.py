"""Restores of MySQL."""
