"""The bodies of requests about clusters."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from strongroom.api.http.fields import Body, Container, FlavorRef, Name, OwnBody, Ref
from strongroom.api.instances.requests import Adopt, Argument, DatastoreChoice, RestorePoint, Volume

Method = Literal["seed", "sst"]


class NewNode(Body):
    """A node in the form of Trove's clients. All must be alike."""

    flavorRef: FlavorRef = ""
    volume: Volume | None = None


class AdoptNode(Adopt):
    """A running node to adopt."""

    host: Ref | None = Field(None, description="The host it runs on. Default: the only host.")
    bootstrap_command: list[Argument] = Field(
        default_factory=list, description="Command that bootstraps the cluster on this node."
    )


class NewCluster(Body):
    """A cluster to create: only the name is required. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    datastore: DatastoreChoice = DatastoreChoice()
    instances: list[NewNode] = Field(default_factory=list, max_length=64)
    locality: Any = None
    configuration: Any = None
    extended_properties: dict[str, Any] = Field(default_factory=dict)
    nodes: int = Field(
        3, ge=1, le=64, description="Extension, like all following fields: number of nodes if `instances` is missing."
    )
    hosts: list[Ref] = Field(default_factory=list, max_length=64, description="Hosts for the nodes. Default: all suitable hosts.")
    restorePoint: RestorePoint | None = Field(None, description="Restore this backup to it.")
    adopt: list[AdoptNode] = Field(
        default_factory=list, max_length=64, description="Adopt these nodes instead of creating new ones."
    )


class CreateCluster(Body):
    """Body of a create."""

    cluster: NewCluster


class ClusterAction(Body):
    """Exactly one action; unsupported ones are refused."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    reset_status: dict[str, Any] = Field(
        default_factory=dict, alias="reset-status", description="Abandon its current task. Administrators only."
    )


class BackupOfCluster(OwnBody):
    """A backup to take."""

    name: Name = ""
    description: Name = ""
    incremental: bool = Field(
        False, description="Only changes since the newest backup; if that is impossible, a full backup with the reason."
    )
    node: Ref = Field("", description="Node to back up. Default: the node of the chain, or a healthy one.")
    desync: bool = Field(False, description="Exclude the node from flow control during the backup.")
    swift_container: Container = ""


class BackUpCluster(OwnBody):
    """Body of a backup."""

    backup: BackupOfCluster = BackupOfCluster()


class RestoreOfCluster(OwnBody):
    """What to restore."""

    backupRef: Ref = Field("", description="Id or unique name.")
    method: Method | None = Field(
        None, description="seed: restore the backup to all nodes; sst: to one node, which transfers it to the others."
    )
    without: list[Ref] = Field(default_factory=list, description="Nodes to leave out and fence.")
    resume: bool = Field(False, description="Continue the restore that failed.")


class RestoreCluster(OwnBody):
    """Body of a restore."""

    restore: RestoreOfCluster


class Recovery(OwnBody):
    """Options of a recovery."""

    node: Ref = Field("", description="Node to bootstrap from. Default: the most advanced one.")
    force: bool = Field(
        False, description="Proceed even if some nodes are unreachable or have newer transactions (those are lost)."
    )


class RecoverCluster(OwnBody):
    """Body of a recovery."""

    recover: Recovery = Recovery()
