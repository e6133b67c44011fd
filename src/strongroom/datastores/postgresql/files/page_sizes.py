"""Sizes of pages and files of relations. Does not import numpy, which the service does not need."""

PAGE = 8192
PAGES_PER_FILE = 131072
"""A relation is divided into files of 1 GiB."""
