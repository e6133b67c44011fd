"""What is different in MariaDB's binary log: GTIDs, and how a reader asks for it."""
