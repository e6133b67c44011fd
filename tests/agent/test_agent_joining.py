"""Tokens, proofs and keys: what each side believes, and what neither does."""

from __future__ import annotations

import http.server
import json
import ssl
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from strongroom.agent.joining import Token, join, proof_of_control, proof_of_host
from strongroom.agent.tls import checked, key_pair
from strongroom.errors import ConfigurationError, InvalidRequest, StrongroomError, Unavailable


@contextmanager
def control_plane(reply: dict[str, object] | bytes, status: int = 200) -> Iterator[tuple[str, list[bytes]]]:
    """What answers a join with ``reply``; its URL, and the bodies that it was sent."""
    sent: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(reply if isinstance(reply, bytes) else json.dumps(reply).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", sent
    server.shutdown()
    server.server_close()
    thread.join()


def test_token_proves_the_host_and_is_never_sent(tmp_path: Path) -> None:
    token = Token.new("db1")
    assert Token.parse(f" {token}\n") == token
    assert token.secret not in repr(token)
    mine, theirs = key_pair(tmp_path / "a", "a").certificate, key_pair(tmp_path / "b", "b").certificate
    with control_plane({"certificate": theirs, "proof": proof_of_control(token.key, mine, theirs)}) as (url, sent):
        assert join(url, token, "https://10.0.0.1:8780", mine) == theirs
    (body,) = sent
    assert token.secret.encode() not in body
    assert token.key.encode() not in body
    assert json.loads(body)["proof"] == proof_of_host(token.key, "db1", "https://10.0.0.1:8780", mine)


def test_control_plane_that_does_not_know_the_token_is_not_trusted(tmp_path: Path) -> None:
    token = Token.new("db1")
    mine, theirs = key_pair(tmp_path / "a", "a").certificate, key_pair(tmp_path / "b", "b").certificate
    other = Token.new("db1")
    for proof in (proof_of_control(other.key, mine, theirs), proof_of_control(token.key, theirs, theirs), ""):
        with (
            control_plane({"certificate": theirs, "proof": proof}) as (url, _),
            pytest.raises(ConfigurationError, match="could not prove that it issued this token"),
        ):
            join(url, token, "https://10.0.0.1:8780", mine)


@pytest.mark.parametrize("reply", [b"", b"<html>", b"{}", b"[]", b'{"certificate": 1, "proof": 2}'])
@pytest.mark.parametrize("status", [200, 404])
def test_other_programs_are_not_accepted_as_control_plane(tmp_path: Path, reply: bytes, status: int) -> None:
    mine = key_pair(tmp_path / "a", "a").certificate
    with control_plane(reply, status) as (url, _), pytest.raises(Unavailable, match="no control plane of Strongroom"):
        join(url, Token.new("db1"), "https://10.0.0.1:8780", mine)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense", "ftp://x"])
def test_unreachable_agent(tmp_path: Path, url: str) -> None:
    mine = key_pair(tmp_path / "a", "a").certificate
    with pytest.raises(StrongroomError, match="does not answer"):
        join(url, Token.new("db1"), "https://10.0.0.1:8780", mine)


@pytest.mark.parametrize("text", ["", "db1", "db1:short", "DB1:" + "A" * 43, "db1:" + "A" * 42 + "!", "../x:" + "A" * 43])
def test_invalid_tokens_are_refused_without_echoing_them(text: str) -> None:
    with pytest.raises(InvalidRequest, match="this is not a token of a host") as refused:
        Token.parse(text)
    assert "A" * 42 not in str(refused.value)


def test_keys_are_private_kept_and_valid_only_for_their_owner(tmp_path: Path) -> None:
    pair = key_pair(tmp_path / "a", "a")
    assert key_pair(tmp_path / "a", "a") == pair
    assert stat.S_IMODE(pair.key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(pair.key_file.parent.stat().st_mode) == 0o700
    assert key_pair(tmp_path / "b", "a").certificate != pair.certificate
    context = pair.client(key_pair(tmp_path / "b", "a").certificate)
    assert (context.verify_mode, len(context.get_ca_certs(binary_form=True))) == (ssl.CERT_REQUIRED, 0)


@pytest.mark.parametrize("text", ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "x" * 10_000])
def test_invalid_certificates_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="not a certificate"):
        checked(text)


def test_two_certificates_are_refused(tmp_path: Path) -> None:
    pair = key_pair(tmp_path / "a", "a").certificate
    with pytest.raises(InvalidRequest):
        checked(pair + pair)


def test_hosts_that_join_at_once_see_the_same_control_plane(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        pairs = list(pool.map(lambda _: key_pair(tmp_path / "a", "a"), range(8)))
    assert len({pair.certificate for pair in pairs}) == 1
    assert pairs[0].certificate == key_pair(tmp_path / "a", "a").certificate
