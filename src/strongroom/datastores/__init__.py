"""Datastores: one package for each. ``Datastore`` describes one by its parts, which are small protocols."""

from strongroom.datastores.protocol.administration import Administration, DatabaseSpec, UserChange, UserSpec
from strongroom.datastores.protocol.backups import BackupKind, BackupRequest, BackupResult, BackupSession, StreamFacts
from strongroom.datastores.protocol.clusters import (
    NO_UUID,
    UUID,
    Clusters,
    GaleraMember,
    GaleraPosition,
    GaleraView,
    Nodes,
    RunningNodes,
    TableSums,
    list_missing,
)
from strongroom.datastores.protocol.clusters import PROGRAMS as GALERA_PROGRAMS
from strongroom.datastores.protocol.clusters import REMEDY as GALERA_REMEDY
from strongroom.datastores.protocol.datastore import Capabilities, Datastore
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
from strongroom.datastores.protocol.restores import ChainLink, Phase, Restored
from strongroom.datastores.protocol.servers import Facts, Finding, Runtime, Server, ServerBase, Sizes, Version
from strongroom.datastores.registry import discover, get, list_names
from strongroom.datastores.toolkit.keep import keep_modes
from strongroom.datastores.toolkit.socket import socket_path
from strongroom.datastores.toolkit.stall import Progress, set_stall_timeout
from strongroom.datastores.toolkit.tools import read_tail

__all__ = [
    "GALERA_PROGRAMS",
    "GALERA_REMEDY",
    "NO_UUID",
    "PROFILE",
    "UUID",
    "Administration",
    "BackupKind",
    "BackupRequest",
    "BackupResult",
    "BackupSession",
    "Capabilities",
    "ChainLink",
    "Clusters",
    "DatabaseSpec",
    "Datastore",
    "Facts",
    "Finding",
    "GaleraMember",
    "GaleraPosition",
    "GaleraView",
    "Nodes",
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
    "RunningNodes",
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
    "list_missing",
    "list_names",
    "read_restored_profile",
    "read_tail",
    "set_stall_timeout",
    "socket_path",
    "write_restored_profile",
]
