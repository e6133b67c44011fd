"""The log archive of PostgreSQL: its WAL as received over the replication protocol, and what the index needs to know of it."""
