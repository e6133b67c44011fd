"""What this host offers: installed databases, addresses, OS users, limits, the directory store."""
