"""The server profile of MariaDB, and the rehearsal of restored data."""
