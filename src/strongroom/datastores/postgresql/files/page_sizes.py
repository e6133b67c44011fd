"""Sizes of pages and files of relations, without numpy, for which the service itself has no use."""

PAGE = 8192
PAGES_PER_FILE = 131072
"""A relation is cut into files of 1 GiB."""
