"""The hash of mysql_native_password."""

from __future__ import annotations

import hashlib


def native_hash(password: str) -> str:
    """The stored hash, with which an account can be created without sending the password."""
    digest = hashlib.sha1(password.encode(), usedforsecurity=False).digest()
    return "*" + hashlib.sha1(digest, usedforsecurity=False).hexdigest().upper()
