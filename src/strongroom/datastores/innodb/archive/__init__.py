"""The log archive of MariaDB and MySQL: the binary log of a server in segments, and what is found in them."""
