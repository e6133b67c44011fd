"""``/metrics`` for Prometheus."""
