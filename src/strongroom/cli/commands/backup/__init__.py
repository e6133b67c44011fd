"""``strongroom backup``."""
