"""The operating system, one way each: durable files, OS users, child processes, locks, direct I/O. Import its modules."""
