"""age keys: made, read from files, and checked. The text of an identity never gets into a message."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from strongroom.errors import ConfigurationError
from strongroom.system.imports import defer_modules

with defer_modules("pyrage"):  # only used if backups are encrypted
    import pyrage


def new_identity() -> tuple[str, str]:
    """A new key pair: the identity (secret, ``AGE-SECRET-KEY-1…``) and its recipient (public, ``age1…``)."""
    identity = pyrage.x25519.Identity.generate()
    return str(identity), str(identity.to_public())


def load_identities(files: Iterable[Path]) -> list[str]:
    """The identities in ``files``: one a line, as age-keygen writes them. Raises ConfigurationError that names file and line."""
    found: list[str] = []
    for file in files:
        lines = _private_text(file).splitlines()
        before = len(found)
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.lstrip().startswith("#"):
                parse_identities([line.strip()], where=f"{file}, line {number}")
                found.append(line.strip())
        if len(found) == before:
            raise ConfigurationError(f"identity file {file} holds no identity", remedy="Make one with `strongroom key new`.")
    return found


def _private_text(file: Path) -> str:
    """What the file holds. Raises ConfigurationError, also when other users of the machine can read it."""
    remedy = "Correct encryption.identity_files, or the owner and mode of the file."
    try:
        data = file.read_bytes()
        mode = file.stat().st_mode
    except OSError as error:
        raise ConfigurationError(f"cannot read identity file {file}: {error.strerror}", remedy=remedy) from error
    if mode & 0o007:
        raise ConfigurationError(
            f"identity file {file} can be read by every user of this machine (mode {mode & 0o777:04o})",
            remedy=f"chmod 600 {file}; if others may have read it, take new backups with a new key.",
        )
    if data.startswith((b"age-encryption.org/", b"-----BEGIN AGE ENCRYPTED FILE-----")):
        raise ConfigurationError(
            f"identity file {file} is protected by a passphrase, and nobody is there to type it",
            remedy=f"Decrypt it into a file of mode 0600: age -d {file} > NEW; then name that one.",
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"identity file {file} is not text", remedy=remedy) from error


def recipients_of(identities: Sequence[str]) -> list[str]:
    """The public keys of identities."""
    return [str(identity.to_public()) for identity in parse_identities(identities)]


def check_recipients(recipients: Sequence[str]) -> None:
    """Raises ConfigurationError that names the first bad public key."""
    parse_recipients(recipients)


def parse_recipients(recipients: Sequence[str]) -> list[pyrage.x25519.Recipient]:
    """Keys as pyrage wants them, each once. Raises ConfigurationError."""
    parsed = []
    for recipient in dict.fromkeys(recipients):
        try:
            parsed.append(pyrage.x25519.Recipient.from_str(recipient))
        except pyrage.RecipientError as error:
            # the user may have confused the secret with the public key
            shown = "an identity (the secret key)" if recipient.upper().startswith("AGE-SECRET-KEY") else repr(recipient)
            raise ConfigurationError(
                f"{shown} is not an age public key",
                remedy="encryption.recipients takes keys that begin with age1; `strongroom key new` prints one.",
            ) from error
    return parsed


def parse_identities(identities: Sequence[str], where: str = "an identity") -> list[pyrage.x25519.Identity]:
    """Keys as pyrage wants them. Raises ConfigurationError that says ``where``."""
    parsed = []
    for identity in identities:
        try:
            parsed.append(pyrage.x25519.Identity.from_str(identity))
        except pyrage.IdentityError as error:
            raise ConfigurationError(
                f"{where}: not an age identity", remedy="Identities begin with AGE-SECRET-KEY-1; `strongroom key new` makes one."
            ) from error
    return parsed
