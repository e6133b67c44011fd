"""``/policies`` and ``/schedules``, extensions: what happens automatically, and when."""
