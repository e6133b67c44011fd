"""Nodes of Galera clusters."""
