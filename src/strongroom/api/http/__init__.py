"""What all routes share: the request and who sends it, errors, the description of the API."""
