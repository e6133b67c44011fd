"""What is kept and what is removed: holds, marks, decisions by the rules, the sweep, how well each database is protected."""
