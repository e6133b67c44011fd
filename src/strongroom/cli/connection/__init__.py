"""The connection to the service: requests, credentials, passwords."""
