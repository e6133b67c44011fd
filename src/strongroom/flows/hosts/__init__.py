"""Hosts: joining, monitoring, the servers on them, and the placement of new instances."""
