"""Names of new things: good ones, that nothing else has."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import typer

from strongroom.cli.session import Session
from strongroom.errors import AlreadyExists, InvalidRequest

Noun = Literal["instance", "backup", "cluster"]
AllowSameName = Annotated[
    bool, typer.Option("--allow-same-name", help="Although another has this name: both must be named by their ids then.")
]
PATTERN = re.compile(r"[^\W_][\w.@:+=-]*")


def require_free_name(session: Session, noun: Noun, name: str, allow_same_name: bool) -> None:
    """Raises InvalidRequest when ``name`` is no good name, AlreadyExists when another ``noun`` of the project has it."""
    if not PATTERN.fullmatch(name):
        raise InvalidRequest(
            f"{name!r} cannot be the name of {'an' if noun == 'instance' else 'a'} {noun}",
            remedy="Use letters, digits and _ . @ : + = - and begin with a letter or digit.",
        )
    if not allow_same_name and session.client.exists(f"{noun}s", name):
        raise AlreadyExists(
            f"{'an' if noun == 'instance' else 'a'} {noun} is named {name} already",
            remedy="Choose another name, or pass --allow-same-name; both can then be named by their ids only.",
        )


def rename(session: Session, noun: Noun, ref: str, name: str, allow_same_name: bool) -> None:
    """Give the thing another name."""
    require_free_name(session, noun, name, allow_same_name)
    session.client.patch(f"{noun}s", ref, json={noun: {"name": name}})


def protect(session: Session, noun: Noun, ref: str, protected: bool) -> None:
    """Protect the thing from deletion, or take that back."""
    session.client.patch(f"{noun}s", ref, json={noun: {"protected": protected}})
