"""Types of values in requests, and formats of times and sizes in replies."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, ClassVar, Self, overload

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from strongroom.sections import CONTAINER_PATTERN

GB = 1024**3
NULL = "null_refused"
"""Error type for a key that is null."""
SLASH = "\udc2f"
"""Stands for a slash within a path segment (sent as %2F) during routing; no decoded text can contain it."""


FinalBackup = Annotated[bool, Query(description="Extension: take a full backup first; delete nothing unless it is complete.")]
"""Parameter of deletions and their plans."""


class Body(BaseModel):
    """Base of request bodies. Null is refused, even for optional keys."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)
    nullable: ClassVar[frozenset[str]] = frozenset()
    """Keys that Trove's clients send as null, or for which null has a meaning."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_nulls(cls, data: Any) -> Any:
        if isinstance(data, dict):
            known = {field.alias or name for name, field in cls.model_fields.items()} | set(cls.model_fields)
            for key, value in data.items():
                if value is None and key in known - cls.nullable:
                    raise PydanticCustomError(NULL, "{key} must not be null", {"key": key})
        return data


class OwnBody(Body):
    """Base of bodies of extensions, which Trove's clients never send. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")


class View(BaseModel):
    """Base of replies. Only fields that were set appear (routes say ``response_model_exclude_unset``)."""

    model_config = ConfigDict(extra="forbid")


class RowView(View):
    """Base of replies that show columns of a row; ``validation_alias`` names a column that has another name than the field."""

    model_config = ConfigDict(from_attributes=True, validate_by_name=True)

    @classmethod
    def of(cls, row: object) -> Self:
        """The representation of the row."""
        return cls.model_validate(row)


class Link(View):
    """A link to a resource: ``self``, ``bookmark``, or ``next`` of a list."""

    href: str
    rel: str


def require_plain(text: str) -> str:
    """Return the text. Raises ValueError for control characters and broken Unicode."""
    if any((ord(c) < 32 and c not in "\n\t") or ord(c) == 127 or 0xD800 <= ord(c) < 0xE000 for c in text):
        raise ValueError("contains control characters or broken Unicode")
    return text


def _parse_name(text: str) -> str:
    if not any(c.isalnum() for c in text):
        raise ValueError("must contain at least one letter or digit")
    if "\n" in text or "\t" in text:
        raise ValueError("contains control characters")
    return text


def _parse_container(name: str) -> str:
    if not re.fullmatch(CONTAINER_PATTERN, name):
        raise ValueError(
            "is not a valid container name: use up to 255 letters, digits and @%_+=:,.- and begin with a letter or digit"
        )
    return name


def _parse_flag(value: Any) -> Any:
    if type(value) is not int or value not in (0, 1):
        raise ValueError("must be the integer 0 or 1")
    return value


def _parse_gigabytes(value: Any) -> Any:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    if type(value) is not int or not 1 <= value < 10**9:
        raise ValueError("must be a whole number of GB, at least 1")
    return value


def _parse_reference(value: Any) -> Any:
    """Trove accepts numbers and URLs as ids."""
    if type(value) is int:
        return str(value)
    return value.rstrip("/").rpartition("/")[2] if isinstance(value, str) else value


Segment = Annotated[str, Path(), BeforeValidator(lambda text: text.replace(SLASH, "/"))]
"""A path parameter; names may contain slashes."""
Text = Annotated[str, StringConstraints(max_length=255), AfterValidator(require_plain)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(require_plain), AfterValidator(_parse_name)]
Ref = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(require_plain)]
Moment = Annotated[str, StringConstraints(min_length=1, max_length=600), AfterValidator(require_plain)]
"""The target of a restore (``archive.Target``)."""
Location = Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(require_plain)]
FlavorRef = Annotated[Ref, BeforeValidator(_parse_reference)]
Container = Annotated[str, AfterValidator(_parse_container), Field(json_schema_extra={"pattern": CONTAINER_PATTERN})]
Flag = Annotated[int, BeforeValidator(_parse_flag)]
Gigabytes = Annotated[int, BeforeValidator(_parse_gigabytes)]


def format_naive(time: datetime) -> str:
    """A time in Trove's format: UTC without a zone, whole seconds."""
    return time.isoformat()[:19]


@overload
def format_iso(time: datetime) -> str: ...
@overload
def format_iso(time: datetime | None) -> str | None: ...
def format_iso(time: datetime | None) -> str | None:
    """A time in fields of extensions: UTC, ISO 8601 with ``Z``."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z") if time else None


Instant = Annotated[str, BeforeValidator(lambda value: format_iso(value) if isinstance(value, datetime) else value)]
"""A time of the catalog, in fields of extensions."""


def format_gigabytes(size: int | None) -> float | None:
    """Bytes as GB with two decimals, at least 0.01."""
    return None if size is None else max(0.01, round(size / GB, 2))
