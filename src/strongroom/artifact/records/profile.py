"""The server profile: settings and facts of the source that a restore depends on. Part of the manifest; untrusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator, FailFast, Field, field_validator

from strongroom.artifact.records.part import Part

Effect = Literal["refuse", "refuse_in_place", "refuse_new", "warn"]
"""What a notice prevents: every backup, a restore in place, a restore to a new instance, or nothing (only shown)."""
Fact = str | int | bool | None | list[str]
_MOST = 10_000
_MOST_TABLES = 200_000
"""Servers with thousands of tenants have tens of thousands of tables."""
_LONGEST = 4000


def _cut(text: object) -> object:
    """Shortened: a server can have many long names."""
    return text if not isinstance(text, str) or len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


_Sentence = Annotated[str, BeforeValidator(_cut)]


class Notice(Part):
    """A message about a backup or a restore. ``item`` names the row of the driver's profile table."""

    item: str = Field(max_length=200)
    effect: Effect
    message: _Sentence = Field(max_length=_LONGEST)
    remedy: _Sentence = Field("", max_length=_LONGEST)


class Profile(Part):
    """Settings and facts of the server, read when its backup starts and again when it ends. Holds no secrets and no paths to run.

    ``settings`` are what a new server needs to serve the data as its source did. Whoever reads them out of a store filters them
    by the driver's own list of names and types.
    """

    settings: dict[str, str] = Field(default_factory=dict, max_length=_MOST)
    plugins: list[str] = Field(
        default_factory=list, max_length=_MOST, description="Names of plugins, extensions and preloaded libraries in use."
    )
    facts: dict[str, Fact] = Field(default_factory=dict, max_length=_MOST, description="What is compared or told, by item.")
    outside: dict[str, str] = Field(
        default_factory=dict, max_length=_MOST, description="Directories outside the data directory, by what lies in them."
    )
    tables: dict[str, int] | None = Field(
        None, description="Number of tables by engine or access method; null when it changed during the backup."
    )
    absent: list[str] = Field(
        default_factory=list, max_length=_MOST, description="Sentences: what is not in the backup by nature."
    )
    empty_tables: list[str] = Field(
        default_factory=list,
        max_length=_MOST_TABLES,
        description="Tables whose rows no backup holds by nature, as schema.table: in memory only, or not logged.",
    )
    left_behind: list[str] = Field(
        default_factory=list, max_length=_MOST, description="Files of the data directory that are not in the backup."
    )
    notices: Annotated[list[Notice], FailFast()] = Field(default_factory=list, max_length=_MOST)

    @field_validator("left_behind", mode="before")
    @classmethod
    def _name_the_first(cls, names: object) -> object:
        """Shorten the list, which is only shown: a directory with a million files must not fail a backup."""
        if isinstance(names, list) and len(names) > _MOST:
            return [*names[: _MOST - 1], f"and {len(names) - _MOST + 1} more"]
        return names

    def differences(self, other: Profile) -> list[str]:
        """Items of ``settings``, ``plugins``, ``facts`` and ``outside`` that differ, sorted."""
        found = {"plugins"} if self.plugins != other.plugins else set()
        for mine, theirs in ((self.settings, other.settings), (self.facts, other.facts), (self.outside, other.outside)):
            found |= {name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)}
        return sorted(found)

    def stopping(self, *effects: Effect) -> list[Notice]:
        """Notices with one of these effects."""
        return [notice for notice in self.notices if notice.effect in effects]

    def warnings(self) -> list[str]:
        """Messages: all notices that do not prevent a backup, and missing items."""
        return [*describe_notices([n for n in self.notices if n.effect == "warn"]), *self.absent]


class Witness(Part):
    """What proves that a server's data descends from a backup: written into the server after the backup ended.

    ``token`` is random and was written into the data itself. ``evidence`` holds what the log or the process of the server shows
    (engine-tagged), for servers in which nothing may be written.
    """

    token: str | None = Field(None, pattern=r"^[0-9a-f]{32}$")
    evidence: dict[str, str] = Field(default_factory=dict, max_length=100)


def describe_notices(notices: Sequence[Notice]) -> list[str]:
    """One sentence per notice, with its remedy."""
    return [f"{notice.message}. {notice.remedy}".rstrip(". ") + "." if notice.remedy else notice.message for notice in notices]
