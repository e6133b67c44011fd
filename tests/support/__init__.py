"""Helpers that several rooms' tests share. Real servers are started here and nowhere else."""
