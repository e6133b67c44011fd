"""Hosts: how they join, which of them answer, what runs there, and where new instances go."""
