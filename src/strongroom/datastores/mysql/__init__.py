"""MySQL: the clone plugin's protocol and the binary log, or XtraBackup where it is installed."""

from strongroom.datastores.mysql.driver import DATASTORE

__all__ = ["DATASTORE"]
