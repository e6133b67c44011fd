"""Hides the machines of the service from members: names and addresses of hosts, and paths, in all texts of a reply.

Errors, faults and progress are written for administrators. A member gets the same sentences with ``[hidden]`` in these places.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from starlette.types import Message, Send

from strongroom.flows import Site

HIDDEN = "[hidden]"
_TEXTS = frozenset(
    {"absent", "detail", "details", "effects", "facts", "fault", "message", "notices", "old_data", "output", "problems"}
    | {"reason", "reasons", "refused", "remedy", "unrestorable_reason", "warnings", "why"}
)
"""Keys of texts, and of objects whose values are texts. Names that users chose are under other keys."""
_COMMON = frozenset({"local", "localhost", "127.0.0.1", "::1"})
"""The host of a service on one machine, and words that say nothing."""
_NOUNS = ("instance", "cluster", "backup", "database", "user", "node", "parent")
_NOT_A_RESOURCE = "".join(rf"(?<!\b{noun} )" for noun in _NOUNS)
_PATH = re.compile(r"file://[^\s'\"`,;)]+|(?<![\w/.:\])}>~%-])/(?!v1\.0/)[\w.@%+=~-]+(?:/[\w.@%+=~-]+)+")


class Privacy:
    """Sends a reply to a member. Use one for each request."""

    def __init__(self, site: Site, send: Send) -> None:
        self._site = site
        self._send = send
        self._start: Message | None = None
        self._body = bytearray()

    async def send(self, message: Message) -> None:
        """Pass on the reply; one in JSON is kept until it is complete."""
        if message["type"] == "http.response.start" and _is_json(message):
            self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                await self._finish(self._start)

    async def _finish(self, start: Message) -> None:
        body = bytes(self._body)
        words = {name for host, url in self._site.agents.urls.items() for name in (host, urlsplit(url).hostname or "")}
        pattern = _make_pattern(frozenset(words | set(self._site.agents.names)))
        try:
            found = json.loads(body)
            hidden = _hide_in(found, pattern, inside=False)
            if hidden != found:
                body = json.dumps(hidden, ensure_ascii=False).encode()
        except ValueError:
            pass
        headers = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
        await self._send({**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
        await self._send({"type": "http.response.body", "body": body})


def hide_names(text: str, names: Iterable[str]) -> str:
    """The text without these names and without paths."""
    return _hide(text, _make_pattern(frozenset(names)))


@lru_cache(16)
def _make_pattern(names: frozenset[str]) -> re.Pattern[str] | None:
    """A name that is followed by an id, or by the noun of something of the member's, is the name of that."""
    words = sorted((re.escape(name) for name in names - _COMMON if name), key=len, reverse=True)
    if not words:
        return None
    return re.compile(rf"(?<![\w.-]){_NOT_A_RESOURCE}(?:{'|'.join(words)})(?![\w-]|\.\w| \([0-9a-f]{{8}}-)")


def _hide(text: str, pattern: re.Pattern[str] | None) -> str:
    text = _PATH.sub(HIDDEN, text)
    return pattern.sub(HIDDEN, text) if pattern is not None else text


def _hide_in(value: Any, pattern: re.Pattern[str] | None, *, inside: bool) -> Any:
    if isinstance(value, dict):
        return {key: _hide_in(part, pattern, inside=inside or key in _TEXTS) for key, part in value.items()}
    if isinstance(value, list):
        return [_hide_in(part, pattern, inside=inside) for part in value]
    return _hide(value, pattern) if inside and isinstance(value, str) else value


def _is_json(start: Message) -> bool:
    kinds = [value for name, value in start.get("headers", ()) if name.lower() == b"content-type"]
    return bool(kinds) and kinds[0].startswith(b"application/json")
