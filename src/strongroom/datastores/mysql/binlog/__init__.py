"""What is different in MySQL's binary log: GTIDs, compressed transactions, and how a reader asks for it."""
