"""Databases: one package each, behind one small Protocol."""

from strongroom.datastores._galera import PROGRAMS as GALERA_PROGRAMS
from strongroom.datastores._galera import REMEDY as GALERA_REMEDY
from strongroom.datastores._galera import UUID, GaleraMember, GaleraPosition, GaleraView, lacking
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
    "GALERA_PROGRAMS",
    "GALERA_REMEDY",
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
    "lacking",
    "names",
    "socket_path",
]
