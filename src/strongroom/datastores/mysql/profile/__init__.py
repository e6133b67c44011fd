"""The server profile of MySQL, and the rehearsal of restored data."""
