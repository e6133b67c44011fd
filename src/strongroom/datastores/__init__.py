"""Databases: one package for each, behind the protocol ``Datastore``."""

from strongroom.datastores.protocol.datastore import (
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
    Sizes,
    StreamFacts,
    UserChange,
    UserSpec,
)
from strongroom.datastores.protocol.nodes import NO_UUID, UUID, GaleraMember, GaleraPosition, GaleraView, TableSums, lacking
from strongroom.datastores.protocol.nodes import PROGRAMS as GALERA_PROGRAMS
from strongroom.datastores.protocol.nodes import REMEDY as GALERA_REMEDY
from strongroom.datastores.protocol.placement import Place, Placement
from strongroom.datastores.protocol.profiles import (
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
from strongroom.datastores.protocol.servers import Runtime, Server, ServerBase, Version
from strongroom.datastores.registry import discover, get, names
from strongroom.datastores.toolkit.keep import keep_modes
from strongroom.datastores.toolkit.socket import socket_path
from strongroom.datastores.toolkit.stall import Progress, set_stall_timeout
from strongroom.datastores.toolkit.tools import tail

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
    "Sizes",
    "StreamFacts",
    "TableSums",
    "UserChange",
    "UserSpec",
    "Version",
    "discover",
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
