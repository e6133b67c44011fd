"""Decides which backups are kept and which are removed: holds, marks, rules, brakes, the sweep; and the status of databases."""
