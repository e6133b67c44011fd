"""Tools that all drivers share."""
