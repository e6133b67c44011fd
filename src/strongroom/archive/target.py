"""The moment to which a log is applied, as a person names it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field

from strongroom.artifact.records.part import Part
from strongroom.errors import InvalidRequest

Kind = Literal["latest", "time", "lsn", "gtid", "before-gtid", "point"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PREFIXES: tuple[Kind, ...] = ("lsn", "gtid", "before-gtid", "point")
_REMEDY = 'Examples: latest, "2026-11-29 13:59:00+01:00", lsn:0/5A28, gtid:0-1-77, before-gtid:0-1-77, point:before-release.'


class Target(Part):
    """``latest``: everything that is archived. ``time``: every transaction committed up to then, and none after it.

    ``lsn``: every record that ends up to there. ``gtid``: everything up to the end of this transaction; ``before-gtid``: up to
    its beginning. ``point``: up to the restore point with this name.
    """

    kind: Kind
    value: Annotated[str, Field(max_length=500)] = ""

    @classmethod
    def parse(cls, text: str, *, utc: bool = False) -> Target:
        """The target that the text names. ``utc``: a time without a zone is in UTC. Raises InvalidRequest."""
        if text == "latest":
            return cls(kind="latest")
        for kind in _PREFIXES:
            if text.startswith(f"{kind}:") and 0 < len(value := text.removeprefix(f"{kind}:")) <= 500:
                return cls(kind=kind, value=value)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise InvalidRequest(f"{text!r} is not a target of a restore", remedy=_REMEDY) from None
        if moment.tzinfo is None:
            if not utc:
                raise InvalidRequest(
                    f"the time {text} has no time zone", remedy=f"Add one, as in {text}+01:00 or {text}Z, or pass --utc."
                )
            moment = moment.replace(tzinfo=UTC)
        return cls(kind="time", value=moment.astimezone(UTC).isoformat())

    @property
    def microseconds(self) -> int:
        """The time, since 1970. Only for ``time``."""
        return (datetime.fromisoformat(self.value) - _EPOCH) // timedelta(microseconds=1)

    def __str__(self) -> str:
        return self.value if self.kind == "time" else f"{self.kind}:{self.value}" if self.value else self.kind
