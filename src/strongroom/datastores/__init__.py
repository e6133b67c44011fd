"""Databases: one package for each, behind the protocol ``Datastore``."""

from strongroom.datastores._galera import NO_UUID, UUID, GaleraMember, GaleraPosition, GaleraView, TableSums, lacking
from strongroom.datastores._galera import PROGRAMS as GALERA_PROGRAMS
from strongroom.datastores._galera import REMEDY as GALERA_REMEDY
from strongroom.datastores._keep import keep_modes
from strongroom.datastores._placement import Place, Placement
from strongroom.datastores._process import tail
from strongroom.datastores._profile import (
    PROFILE,
    Policy,
    ProfileItem,
    Profiles,
    Rehearsal,
    RestoredProfile,
    RestoreTarget,
    read_restored_profile,
    write_restored_profile,
)
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
    StreamFacts,
    UserChange,
    UserSpec,
)
from strongroom.datastores._registry import get, names
from strongroom.datastores._servers import Runtime, Server, ServerBase, Version
from strongroom.datastores._socket import socket_path
from strongroom.datastores._stall import Progress, set_stall_timeout

__all__ = [
    "GALERA_PROGRAMS",
    "GALERA_REMEDY",
    "NO_UUID",
    "PROFILE",
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
    "Place",
    "Placement",
    "Policy",
    "ProfileItem",
    "Profiles",
    "Progress",
    "Rehearsal",
    "RestoreTarget",
    "Restored",
    "RestoredProfile",
    "Runtime",
    "Server",
    "ServerBase",
    "StreamFacts",
    "TableSums",
    "UserChange",
    "UserSpec",
    "Version",
    "get",
    "keep_modes",
    "lacking",
    "names",
    "read_restored_profile",
    "set_stall_timeout",
    "socket_path",
    "tail",
    "write_restored_profile",
]
