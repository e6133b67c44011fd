"""The section ``[flavors]`` of the configuration."""

from __future__ import annotations

from pydantic import Field

from strongroom.sections.section import Section


class Flavor(Section):
    """A size of instances."""

    ram: int = Field(ge=64, description="Memory of the server in MB. It determines the size of the buffer pool and other caches.")
    vcpus: int = Field(1, ge=1, description="Number of cores, only displayed.")
    disk: int = Field(0, ge=0, description="Size of the root disk in GB, only displayed.")
    aliases: list[str] = Field(
        default_factory=list, description="Other ids by which clients may request it, such as those of Nova's flavors."
    )


def default_flavors() -> dict[str, Flavor]:
    """The flavors if the configuration has none."""
    return {f"d{n}": Flavor(ram=512 * 2 ** (n - 1), vcpus=max(1, 2 ** (n - 2))) for n in range(1, 6)}
