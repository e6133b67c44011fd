"""Hashes of passwords: with them, accounts can be created without sending the password, whatever the rules for passwords."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from strongroom.datastores.innodb.hash import native_hash

_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ROUNDS = 5000


def hash_password(password: str, version: Sequence[int]) -> tuple[str, str]:
    """Plugin and stored form for a server of ``version``.

    The salt is derived from the password, so that the files of a server do not change. The password is long and random.
    """
    secret = password.encode()
    if tuple(version) < (8,):
        return "mysql_native_password", native_hash(password)
    salt = hashlib.sha256(b"salt of " + secret).hexdigest()[:20].encode()
    return "caching_sha2_password", f"$A$005${salt.decode()}{_sha256_crypt(secret, salt)}"


def _sha256_crypt(password: bytes, salt: bytes) -> str:
    """SHA-crypt by Ulrich Drepper's description, which the plugin follows, with a salt of 20 bytes."""

    def digest(*parts: bytes) -> bytes:
        return hashlib.sha256(b"".join(parts)).digest()

    def fill(source: bytes, length: int) -> bytes:
        return (source * (length // len(source) + 1))[:length]

    length = len(password)
    other = digest(password, salt, password)
    bits = [other if length >> n & 1 else password for n in range(length.bit_length())]
    mixed = digest(password, salt, fill(other, length), *bits)
    p = fill(digest(password * length), length)
    s = fill(digest(salt * (16 + mixed[0])), len(salt))
    for number in range(_ROUNDS):
        first, last = (p, mixed) if number & 1 else (mixed, p)
        mixed = digest(first, s if number % 3 else b"", p if number % 7 else b"", last)
    return _encode(mixed)


def _encode(digest: bytes) -> str:
    text = ""
    for n in range(0, 210, 21):  # three bytes at a time, ten apart
        a, b, c = (digest[(n + step) % 30] for step in (0, 10, 20))
        text += _letters(a << 16 | b << 8 | c, 4)
    return text + _letters(digest[31] << 8 | digest[30], 3)


def _letters(value: int, count: int) -> str:
    return "".join(_ALPHABET[value >> 6 * n & 0x3F] for n in range(count))
