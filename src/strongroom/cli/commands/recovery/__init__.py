"""Commands that restore data, and that show what can be restored."""
