"""How a host joins: both sides know a one-time token, with which each proves its certificate to the other.

The token never crosses the wire; it is the key of a MAC over what does. Eavesdroppers learn nothing useful, and both sides
detect a changed certificate. So plain HTTP is sufficient.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from dataclasses import dataclass

import httpx
from pydantic import Field, ValidationError

from strongroom import __version__
from strongroom.errors import ConfigurationError, InvalidRequest, Unavailable, from_dict
from strongroom.sections import HOST_PATTERN
from strongroom.worker.spec import Message

PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Token:
    """A one-time token: the name of the host that it is for, and a secret."""

    name: str
    secret: str

    @classmethod
    def new(cls, name: str) -> Token:
        """A new token."""
        return cls(name, secrets.token_urlsafe(32))

    @classmethod
    def parse(cls, text: str) -> Token:
        """The token that ``text`` is. Raises InvalidRequest, without the text."""
        name, _, secret = text.strip().partition(":")
        if not re.fullmatch(HOST_PATTERN, name) or not re.fullmatch(r"[A-Za-z0-9_-]{43}", secret):
            raise InvalidRequest("this is not a token of a host", remedy="Get one with `strongroom host add NAME`.")
        return cls(name, secret)

    @property
    def key(self) -> str:
        """What the control plane keeps of it."""
        return hashlib.sha256(b"strongroom host token " + self.secret.encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.name}:{self.secret}"

    def __repr__(self) -> str:
        return f"Token({self.name!r})"


class JoinRequest(Message):
    """Body of ``POST /join``: who joins, where its agent listens (``https://address:port``), its certificate, and the proof."""

    name: str = Field(pattern=HOST_PATTERN)
    url: str = Field(max_length=300)
    certificate: str = Field(max_length=16384)
    proof: str = Field(max_length=64)
    version: str = Field("", max_length=64, description="Of Strongroom on the host.")


class JoinReply(Message):
    """The certificate of the control plane, and the proof that it is."""

    certificate: str
    proof: str


def proof_of_host(key: str, name: str, url: str, certificate: str) -> str:
    """The proof that the host with the token sent this."""
    return _mac(key, "host", name, url, certificate)


def proof_of_control(key: str, host_certificate: str, certificate: str) -> str:
    """The proof that the control plane with the token answers this host."""
    return _mac(key, "control plane", host_certificate, certificate)


def same(one: str, other: str) -> bool:
    """Whether two proofs are the same, in constant time."""
    return hmac.compare_digest(one.encode(), other.encode())


def _mac(key: str, *parts: str) -> str:
    return hmac.new(key.encode(), json.dumps(parts).encode(), hashlib.sha256).hexdigest()


def join(control_plane: str, token: Token, url: str, certificate: str) -> str:
    """Send the certificate of the host and return that of the control plane.

    Raises the error of the control plane, Unavailable, ConfigurationError.
    """
    proof = proof_of_host(token.key, token.name, url, certificate)
    request = JoinRequest(name=token.name, url=url, certificate=certificate, proof=proof, version=__version__)
    where = control_plane.rstrip("/")
    try:
        response = httpx.post(f"{where}/join", json=request.model_dump(), timeout=PATIENCE)
        if response.is_error:
            fault = next(iter(response.json().values()))
            raise from_dict({"code": fault["error_code"], "message": str(fault["message"]), "remedy": fault.get("remedy")})
        reply = JoinReply.model_validate_json(response.content)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(
            f"the control plane at {where} does not answer: {str(error) or type(error).__name__}", remedy="Check --control-plane."
        ) from error
    except (ValidationError, ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:
        raise Unavailable(f"{where} answers, but is no control plane of Strongroom", remedy="Check --control-plane.") from error
    if not same(reply.proof, proof_of_control(token.key, certificate, reply.certificate)):
        raise ConfigurationError(
            f"{where} could not prove that it issued this token; it may be the wrong service or an intercepted connection",
            remedy="Investigate before you try again.",
        )
    return reply.certificate
