"""Trove's routes for administrators, below ``/mgmt``."""
