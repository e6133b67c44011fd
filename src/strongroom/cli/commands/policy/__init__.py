"""``strongroom policy``."""
