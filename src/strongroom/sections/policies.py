"""The section ``[policies]`` of the configuration. Workers do not need it, and it loads the rules of protection."""

from __future__ import annotations

from pydantic import Field

from strongroom.protection.policy import PolicySpec


class DeclaredPolicy(PolicySpec):
    """A policy that users can attach and pause, but not change."""

    project: str = Field("default", min_length=1, max_length=255, description="The project that it is in.")
    whole_project: bool = Field(False, description="It applies to all databases of the project without a policy of their own.")

    @property
    def spec(self) -> PolicySpec:
        """Its settings alone."""
        return PolicySpec.model_validate(self.model_dump(include=set(PolicySpec.model_fields)))
