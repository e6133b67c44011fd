"""Policies at work: which databases have schedules, which runs begin, what their ends mean."""
