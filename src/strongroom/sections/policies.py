"""The section ``[policies]`` of the configuration. Workers do not need it, and it loads the rules of protection."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, ModelWrapValidatorHandler, model_validator

from strongroom.errors import InvalidRequest
from strongroom.protection.policy import PolicySpec


class DeclaredPolicy(PolicySpec):
    """A policy that users can attach and pause, but not change."""

    project: str = Field("default", min_length=1, max_length=255, description="The project that it is in.")
    whole_project: bool = Field(False, description="It applies to all databases of the project without a policy of their own.")

    @model_validator(mode="wrap")
    @classmethod
    def _locate_mistakes(cls, value: Any, read: ModelWrapValidatorHandler[Self]) -> Self:
        """Raise mistakes as pydantic expects them, so that the message names the policy."""
        try:
            return read(value)
        except InvalidRequest as error:
            raise ValueError(f"{error.message}. {error.remedy}") from None

    @property
    def spec(self) -> PolicySpec:
        """Its settings alone."""
        return PolicySpec.model_validate(self.model_dump(include=set(PolicySpec.model_fields)))
