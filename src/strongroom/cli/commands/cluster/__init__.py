"""``strongroom cluster``."""
