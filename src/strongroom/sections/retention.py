"""The section ``[retention]`` of the configuration."""

from __future__ import annotations

from pydantic import Field

from strongroom.sections.section import Section


class Retention(Section):
    """What happens to backups that are deleted or that no rule of a policy keeps."""

    grace: float = Field(
        24 * 3600.0,
        ge=0,
        description="Seconds for which a deleted or expired backup stays in the store before it is removed. Until then it can be "
        "restored and undeleted. Only time in which the service runs counts. 0: what is deleted is removed at once.",
    )
    interval: float = Field(
        300.0, ge=1, description="Seconds between two looks for backups that expire, or whose grace period has ended."
    )
