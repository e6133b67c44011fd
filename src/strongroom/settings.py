"""Loads the configuration. Its options are declared in ``sections``.

Precedence, highest first: command-line flags, environment (``STRONGROOM_SERVICE__PORT=8779``), the TOML file, the defaults.
Only ``load`` reads files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from strongroom.errors import ConfigurationError
from strongroom.sections import (
    Agent,
    Artifact,
    Datastores,
    Encryption,
    Flavor,
    Hosts,
    Identity,
    Quotas,
    Service,
    Storage,
    default_flavors,
)


class Settings(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(env_prefix="STRONGROOM_", env_nested_delimiter="__", extra="ignore", validate_default=True)

    service: Service = Field(default_factory=Service)
    identity: Identity = Field(default_factory=Identity)
    storage: Storage = Field(default_factory=Storage)
    artifact: Artifact = Field(default_factory=Artifact)
    encryption: Encryption = Field(default_factory=Encryption)
    agent: Agent = Field(default_factory=Agent)
    hosts: Hosts = Field(default_factory=Hosts)
    datastores: Datastores = Field(default_factory=Datastores)
    quotas: Quotas = Field(default_factory=Quotas)
    flavors: dict[str, Flavor] = Field(default_factory=default_flavors)
    default_flavor: str = Field("d1", description="Flavor of a new instance if the request names none.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings

    @property
    def user_file(self) -> Path:
        """The user file of the method ``basic``."""
        return self.identity.user_file or self.service.data_dir / "users.json"

    @property
    def store_path(self) -> Path:
        """Path of the directory store."""
        return self.storage.path or self.service.data_dir / "store"


def load(config: Path | None = None, **flags: dict[str, Any]) -> Settings:
    """Read the configuration. Precedence: ``flags`` (by section), environment, the file ``config``, defaults.

    Raises ConfigurationError, which names the file and the option.
    """

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=config)

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    if config is not None and not config.is_file():
        raise ConfigurationError(f"configuration file {config} does not exist", remedy="Check the path given with --config.")
    try:
        settings = FromFile(**flags)  # type: ignore[arg-type]
        known = set(Settings.model_fields)
        if config is not None:
            import tomllib

            unknown = set(tomllib.loads(config.read_text())) - known
            if unknown:
                raise ConfigurationError(
                    f"{config}: unknown section {', '.join(sorted(unknown))}",
                    remedy=f"The sections are {', '.join(sorted(known))}.",
                )
    except ValidationError as error:
        where = "; ".join(f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors())
        raise ConfigurationError(f"the configuration is not valid: {where}", remedy="See docs/configuration.md.") from error
    except (ValueError, OSError) as error:
        raise ConfigurationError(f"cannot read the configuration {config}: {error}") from error
    return Settings.model_construct(**{name: getattr(settings, name) for name in Settings.model_fields})
