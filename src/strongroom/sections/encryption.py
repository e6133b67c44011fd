"""The section ``[encryption]`` of the configuration."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from strongroom.sections.section import Section


class Encryption(Section):
    """Encryption of artifacts with age: public keys to encrypt, identity files to decrypt."""

    recipients: list[str] = Field(default_factory=list, description="age public keys. Empty: artifacts are not encrypted.")
    identity_files: list[Path] = Field(
        default_factory=list, description="Files with age identities. Only restores and verifications need them."
    )
