"""What the rest of the service asks of a database."""
