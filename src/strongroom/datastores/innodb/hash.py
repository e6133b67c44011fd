"""What mysql_native_password keeps of a password."""

from __future__ import annotations

import hashlib


def native_hash(password: str) -> str:
    """The stored form: with it an account is made without sending the password."""
    digest = hashlib.sha1(password.encode(), usedforsecurity=False).digest()
    return "*" + hashlib.sha1(digest, usedforsecurity=False).hexdigest().upper()
