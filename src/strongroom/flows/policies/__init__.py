"""Applies policies: schedules of databases, runs that begin, and results of runs."""
