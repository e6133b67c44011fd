"""Databases, users and root of an instance."""
