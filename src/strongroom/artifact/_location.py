"""Where an artifact lives, and the keys of its parts."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from strongroom.sections import CONTAINER_PATTERN

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"


class Location(BaseModel):
    """An artifact: ``id`` in ``container``. Both are checked, for they come from foreign manifests too."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    container: str = Field(pattern=CONTAINER_PATTERN)
    id: str = Field(pattern=ID_PATTERN)

    @property
    def prefix(self) -> str:
        """The folder that holds every part."""
        return f"{self.container}/{self.id}"

    @property
    def manifest(self) -> str:
        """Key of the manifest, written last."""
        return f"{self.prefix}/manifest.json"

    @property
    def intent(self) -> str:
        """Key of the intent record, written first and removed after the manifest."""
        return f"{self.prefix}/intent.json"

    @property
    def index(self) -> str:
        """Key of the index of the stream."""
        return f"{self.prefix}/index.json.zst"

    def segment(self, number: int) -> str:
        """Key of a segment. Eight digits, so that names sort as the stream does."""
        return f"{self.prefix}/{number:08d}"

    @property
    def verifications(self) -> str:
        """The folder of the results of verifications."""
        return f"{self.prefix}/verifications"

    def verification(self, number: int) -> str:
        """Key of the result of a verification."""
        return f"{self.verifications}/{number:08d}.json"

    def joint(self, level: int, number: int) -> str:
        """Key of an object that joins some segments, where there are too many for one."""
        return f"{self.prefix}/joined-{level}-{number:08d}"
