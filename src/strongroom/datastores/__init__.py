"""Databases: one package each, behind one small Protocol."""

from strongroom.datastores._protocol import (
    BackupKind,
    BackupRequest,
    BackupResult,
    BackupSession,
    Capabilities,
    ChainLink,
    DatabaseSpec,
    Datastore,
    Facts,
    Phase,
    Restored,
    Server,
    UserSpec,
    Version,
)

__all__ = [
    "BackupKind",
    "BackupRequest",
    "BackupResult",
    "BackupSession",
    "Capabilities",
    "ChainLink",
    "DatabaseSpec",
    "Datastore",
    "Facts",
    "Phase",
    "Restored",
    "Server",
    "UserSpec",
    "Version",
]
