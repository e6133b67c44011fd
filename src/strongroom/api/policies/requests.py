"""The bodies of requests about policies."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AwareDatetime, ConfigDict, Field, create_model

from strongroom.api.http.fields import Name, OwnBody, Ref, Text
from strongroom.protection.policy import PolicySpec


class NewPolicy(PolicySpec):
    """A policy to create. At least one retention rule (``keep_…``) is required."""

    name: Name


class CreatePolicy(OwnBody):
    """Body of a create."""

    policy: NewPolicy


_FIELDS: dict[str, Any] = {name: (field.rebuild_annotation(), field) for name, field in PolicySpec.model_fields.items()}
ChangedPolicy = create_model(
    "ChangedPolicy",
    __base__=OwnBody,
    __doc__="Settings to change; what is left out stays as it is.",
    name=(Name, Field("", description="The new name.")),
    **_FIELDS,
)


class UpdatePolicy(OwnBody):
    """Body of an update."""

    policy: ChangedPolicy


class Databases(OwnBody):
    """To what a policy is attached, or from what it is detached."""

    databases: list[Ref] = Field(
        default_factory=list, max_length=1000, description="Instances and clusters: ids or unique names."
    )
    whole_project: bool = Field(
        False, strict=True, description="All instances and clusters of the project without a policy of their own."
    )


class Pause(OwnBody):
    """Why no runs begin, and until when."""

    reason: Text
    until: AwareDatetime | None = Field(None, description="Default: until it is resumed.")


class Run(OwnBody):
    """A backup to take now, in addition to the schedules."""

    database: Ref = Field(description="Instance or cluster: id or unique name.")
    kind: Literal["full", "incremental"] | None = Field(
        None, description="Default: incremental if the policy has a schedule for them."
    )


class PolicyAction(OwnBody):
    """Exactly one action."""

    model_config = ConfigDict(extra="forbid")

    attach: Databases | None = Field(None, description="Attach the policy; it replaces the one that was attached.")
    detach: Databases | None = Field(None, description="Detach the policy; the policy of the project then applies, if any.")
    pause: Pause | None = Field(None, description="Begin no runs.")
    resume: dict[str, Any] | None = Field(None, description="Begin runs again; what was due meanwhile is not made up for.")
    run: Run | None = Field(None, description="Take a backup now.")
