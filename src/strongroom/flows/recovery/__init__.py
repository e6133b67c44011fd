"""Point-in-time recovery: the log archives of instances, what can be restored from them, and the plan of a restore."""
