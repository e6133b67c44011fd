"""The rules of protection as pure functions: schedules, runs, retention, status. They know no catalog, no store and no clock."""
