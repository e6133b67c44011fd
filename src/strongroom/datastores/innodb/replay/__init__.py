"""Restored data of MariaDB and MySQL is rolled forward: the archived log becomes relay logs of a private server."""
