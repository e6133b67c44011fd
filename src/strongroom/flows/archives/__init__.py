"""Keeps the log archives running that policies demand: their duties, their state, the backups that they need, their retention."""
