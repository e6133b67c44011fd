"""Databases: one package each, behind one small Protocol."""

from strongroom.datastores._galera import UUID, GaleraMember, GaleraPosition, GaleraView
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
    Finding,
    Galera,
    Phase,
    Restored,
    Server,
    StreamFacts,
    UserChange,
    UserSpec,
    Version,
)
from strongroom.datastores._registry import get, names
from strongroom.datastores._socket import socket_path

__all__ = [
    "UUID",
    "BackupKind",
    "BackupRequest",
    "BackupResult",
    "BackupSession",
    "Capabilities",
    "ChainLink",
    "DatabaseSpec",
    "Datastore",
    "Facts",
    "Finding",
    "Galera",
    "GaleraMember",
    "GaleraPosition",
    "GaleraView",
    "Phase",
    "Restored",
    "Server",
    "StreamFacts",
    "UserChange",
    "UserSpec",
    "Version",
    "get",
    "names",
    "socket_path",
]
