"""Names of instances, backups and clusters: validity, uniqueness, changes."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import typer

from strongroom.cli.session import Session
from strongroom.errors import AlreadyExists, InvalidRequest

Noun = Literal["instance", "backup", "cluster"]
AllowSameName = Annotated[
    bool, typer.Option("--allow-same-name", help="Allow a name that is in use; both can then be specified only by their ids.")
]
PATTERN = re.compile(r"[^\W_][\w.@:+=-]*")


def require_free_name(session: Session, noun: Noun, name: str, allow_same_name: bool) -> None:
    """Raises InvalidRequest if ``name`` is invalid, AlreadyExists if another ``noun`` of the project has it."""
    if not PATTERN.fullmatch(name):
        raise InvalidRequest(
            f"{name!r} is not a valid name of {'an' if noun == 'instance' else 'a'} {noun}",
            remedy="Use letters, digits and _ . @ : + = -; the first must be a letter or digit.",
        )
    if not allow_same_name and session.client.exists(f"{noun}s", name):
        raise AlreadyExists(
            f"{'an' if noun == 'instance' else 'a'} {noun} named {name} already exists",
            remedy="Choose another name, or pass --allow-same-name; both can then be specified only by their ids.",
        )


def rename(session: Session, noun: Noun, ref: str, name: str, allow_same_name: bool) -> None:
    """Rename a resource."""
    require_free_name(session, noun, name, allow_same_name)
    session.client.patch(f"{noun}s", ref, json={noun: {"name": name}})


def protect(session: Session, noun: Noun, ref: str, protected: bool) -> None:
    """Protect a resource from deletion, or remove the protection."""
    session.client.patch(f"{noun}s", ref, json={noun: {"protected": protected}})
