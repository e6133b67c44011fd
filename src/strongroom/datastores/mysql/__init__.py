"""MySQL: the clone plugin's protocol and the binary log, or XtraBackup where it is installed."""
