"""The section ``[metrics]`` of the configuration."""

from __future__ import annotations

from pydantic import Field, SecretStr

from strongroom.sections.section import Section


class Metrics(Section):
    """Who may read `/metrics`."""

    token: SecretStr | None = Field(
        None,
        min_length=16,
        description="Token with which a monitoring system reads `/metrics`, at least 16 characters. It is sent in the header "
        "`Authorization: Bearer TOKEN`, and shows the metrics of all projects. Default: only administrators may read them.",
    )
