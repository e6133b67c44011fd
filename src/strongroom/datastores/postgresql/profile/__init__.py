"""The server profile of PostgreSQL, and the rehearsal of restored data."""
