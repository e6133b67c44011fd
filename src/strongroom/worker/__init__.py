"""The worker: an OS process that runs one job. It reads a JSON spec from stdin and writes events and a result as JSON."""
