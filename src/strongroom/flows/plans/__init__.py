"""Plans: what an operation would do, without starting it."""
