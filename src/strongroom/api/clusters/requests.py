"""The bodies of requests about clusters."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from strongroom.api.http.fields import Body, Container, FlavorRef, Name, OwnBody, Ref
from strongroom.api.instances.requests import Adopt, Argument, DatastoreChoice, RestorePoint, Volume

Method = Literal["seed", "sst"]


class NodeWish(Body):
    """A node, as Trove's clients ask for one. All must be alike."""

    flavorRef: FlavorRef = ""
    volume: Volume | None = None


class AdoptNode(Adopt):
    """A running node to take in."""

    host: Ref | None = Field(None, description="The host with an agent that it runs on. Default: the only one.")
    bootstrap_command: list[Argument] = Field(default_factory=list, description="How its owner bootstraps a cluster with it.")


class ClusterWish(Body):
    """A cluster to create: everything but the name has a default. An unknown key is refused, as for instances."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    datastore: DatastoreChoice = DatastoreChoice()
    instances: list[NodeWish] = Field(default_factory=list, max_length=64)
    locality: Any = None
    configuration: Any = None
    extended_properties: dict[str, Any] = Field(default_factory=dict)
    nodes: int = Field(
        3, ge=1, le=64, description="Extension, as are all that follow: how many, where `instances` are not named."
    )
    hosts: list[Ref] = Field(default_factory=list, max_length=64, description="Where to put them. Default: all hosts that can.")
    restorePoint: RestorePoint | None = Field(None, description="Give it the data of this backup.")
    adopt: list[AdoptNode] = Field(
        default_factory=list, max_length=64, description="Take in these nodes, instead of making some."
    )


class CreateCluster(Body):
    """Body of a create."""

    cluster: ClusterWish


class ClusterAction(Body):
    """Exactly one of these; what is not done says so."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    reset_status: dict[str, Any] = Field(
        default_factory=dict, alias="reset-status", description="Give up whatever is being done to it. For administrators."
    )


class BackupOfCluster(OwnBody):
    """A backup to take."""

    name: Name = ""
    description: Name = ""
    incremental: bool = Field(
        False, description="Only what changed since the newest backup; a full with a reason, if that is gone."
    )
    node: Ref = Field("", description="Of this node. Default: a healthy one, or the one with the chain.")
    desync: bool = Field(False, description="The cluster does not wait for the node meanwhile.")
    swift_container: Container = ""


class BackUpCluster(OwnBody):
    """Body of a backup."""

    backup: BackupOfCluster = BackupOfCluster()


class RestoreOfCluster(OwnBody):
    """What to restore."""

    backupRef: Ref = Field("", description="Id or unique name.")
    method: Method | None = Field(None, description="seed: all nodes from the backup; sst: one, which sends it to the others.")
    without: list[Ref] = Field(default_factory=list, description="Nodes to leave out: they are fenced.")
    resume: bool = Field(False, description="Go on with the restore that failed on its way.")


class RestoreCluster(OwnBody):
    """Body of a restore."""

    restore: RestoreOfCluster


class Recovery(OwnBody):
    """How to bring it back."""

    node: Ref = Field("", description="The node that begins. Default: the one that is farthest.")
    force: bool = Field(False, description="Though nodes cannot be asked, or know more.")


class RecoverCluster(OwnBody):
    """Body of a recovery."""

    recover: Recovery = Recovery()
