"""age keys."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from strongroom.artifact import check_recipients, load_identities, new_identity
from strongroom.errors import ConfigurationError


def test_files_as_age_keygen_writes_them(place: Path) -> None:
    pairs = [new_identity() for _ in range(3)]
    one, two = place / "one", place / "two"
    one.write_text(f"# created: 2026-01-01\n# public key: {pairs[0][1]}\n{pairs[0][0]}\n\n  {pairs[1][0]}  \n")
    two.write_text(pairs[2][0])
    for file in (one, two):
        file.chmod(0o600)
    assert load_identities([one, two]) == [identity for identity, _ in pairs]
    assert load_identities([]) == []
    check_recipients([recipient for _, recipient in pairs])


def test_bad_files_are_named_and_secrets_are_not_shown(place: Path) -> None:
    secret, recipient = new_identity()
    file = place / "identity"
    file.write_text(f"# a comment\n{secret[:-3]}\n")
    with pytest.raises(ConfigurationError, match="can be read by every user"):
        load_identities([file])
    file.chmod(0o600)
    with pytest.raises(ConfigurationError, match=f"{file}, line 2") as caught:
        load_identities([file])
    assert secret[20:40] not in str(caught.value) + repr(caught.value.__cause__)
    file.write_text(f"# {secret}\n")
    with pytest.raises(ConfigurationError, match="holds no identity"):
        load_identities([file])
    file.write_bytes(os.urandom(200))
    with pytest.raises(ConfigurationError, match=str(file)):
        load_identities([file])
    file.write_bytes(b"age-encryption.org/v1\n-> scrypt \xff\xfe")
    with pytest.raises(ConfigurationError, match="is protected by a passphrase"):
        load_identities([file])
    with pytest.raises(ConfigurationError, match="No such file"):
        load_identities([place / "missing"])
    with pytest.raises(ConfigurationError, match="the secret key"):
        check_recipients([recipient, secret.lower()])
