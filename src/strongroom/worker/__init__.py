"""One OS process for one job: a JSON spec on stdin, JSON-lines events and a result in the job's directory."""
