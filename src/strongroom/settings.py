"""Loads the configuration. Its options are declared in ``sections``.

Precedence, highest first: command-line flags, environment (``STRONGROOM_SERVICE__PORT=8779``), the TOML file, the defaults.
Only ``load`` reads files.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from strongroom.errors import SettingsInvalid, UnknownValue
from strongroom.sections import (
    Agent,
    Artifact,
    Datastores,
    Encryption,
    Flavor,
    Hosts,
    Identity,
    Metrics,
    Quotas,
    Retention,
    Service,
    Storage,
    default_flavors,
)
from strongroom.sections.policies import DeclaredPolicy


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
    metrics: Metrics = Field(default_factory=Metrics)
    quotas: Quotas = Field(default_factory=Quotas)
    retention: Retention = Field(default_factory=Retention)
    policies: dict[str, DeclaredPolicy] = Field(default_factory=dict)
    flavors: dict[str, Flavor] = Field(default_factory=default_flavors)
    default_flavor: str = Field("d1", description="Flavor of a new instance if the request names none.")

    @field_validator("flavors")
    @classmethod
    def _require_distinct_ids(cls, flavors: dict[str, Flavor]) -> dict[str, Flavor]:
        ids = [*flavors, *(alias for flavor in flavors.values() for alias in flavor.aliases)]
        for name in ids:
            if ids.count(name) > 1:
                raise ValueError(f"{name} is the name or an alias of several flavors")
        return flavors

    def find_flavor(self, ref: str) -> str:
        """The name of the flavor with this name or alias. Raises UnknownValue."""
        if ref in self.flavors:
            return ref
        for name, flavor in self.flavors.items():
            if ref in flavor.aliases:
                return name
        raise UnknownValue(
            f"flavor {ref} cannot be found",
            remedy=f"The flavors are {', '.join(self.flavors)}. To allow other ids, configure them as aliases of a flavor.",
        )

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

    Raises SettingsInvalid, which names the file or the variable and the option, and suggests what was meant.
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
        raise SettingsInvalid(f"configuration file {config} does not exist", remedy="Check the path given with --config.")
    in_file = _read_sections(config)
    known = set(Settings.model_fields)
    if unknown := sorted(set(in_file) - known):
        raise SettingsInvalid(
            f"{config}: there is no section or option {unknown[0]}",
            remedy=_suggest(unknown[0], known) or f"The sections are {', '.join(sorted(known))}.",
        )
    try:
        settings = FromFile(**flags)  # type: ignore[arg-type]
    except ValidationError as error:
        raise _explain(error, config, in_file) from error
    except (ValueError, OSError) as error:
        raise SettingsInvalid(f"cannot read the configuration {config}: {error}") from error
    return Settings.model_construct(**{name: getattr(settings, name) for name in Settings.model_fields})


def _read_sections(config: Path | None) -> dict[str, Any]:
    """The content of the file. Raises SettingsInvalid."""
    if config is None:
        return {}
    try:
        return tomllib.loads(config.read_text())
    except (ValueError, OSError) as error:
        raise SettingsInvalid(f"{config} cannot be read as TOML: {error}", remedy="See docs/configuration.md.") from error


def _explain(error: ValidationError, config: Path | None, in_file: Mapping[str, Any]) -> SettingsInvalid:
    """Describe each mistake with its file or variable, and suggest what was meant. Values are not repeated."""
    mistakes, remedies = [], []
    for found in error.errors(include_input=False, include_url=False):
        path = [str(part) for part in found["loc"]]
        option = ".".join(path)
        origin = f"{config}: " if _contains(in_file, path) else f"{variable(*path)}: " if _is_set(path) else ""
        if found["type"] == "extra_forbidden":
            options = _list_options(path[:-1])
            mistakes.append(f"{origin}there is no option {option}")
            remedies.append(_suggest(path[-1], options, path[:-1]) or f"The options are {', '.join(sorted(options))}.")
        else:
            what = str(found["msg"]).removeprefix("Value error, ")
            mistakes.append(f"{origin}{option}: {what[:1].lower()}{what[1:]}")
    return SettingsInvalid("; ".join(mistakes), remedy=" ".join([*dict.fromkeys(remedies)]) or "See docs/configuration.md.")


def _contains(tree: Any, path: Sequence[str]) -> bool:
    for part in path:
        if not isinstance(tree, Mapping) or part not in tree:
            return False
        tree = tree[part]
    return True


def variable(*path: str) -> str:
    """The environment variable of an option."""
    return f"STRONGROOM_{'__'.join(path)}".upper()


def _is_set(path: Sequence[str]) -> bool:
    return variable(*path) in {name.upper() for name in os.environ}


def _list_options(path: Sequence[str]) -> set[str]:
    """The options of a section, or of the named tables in a section."""
    field = Settings.model_fields.get(path[0]) if path else None
    if field is None:
        return set(Settings.model_fields)
    kinds = [field.annotation, *get_args(field.annotation)]
    return {name for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel) for name in kind.model_fields}


def _suggest(word: str, known: Iterable[str], below: Sequence[str] = ()) -> str:
    """``Did you mean …?``, or an empty string."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"Did you mean {'.'.join([*below, close[0]])}?" if close else ""


@dataclass(frozen=True, slots=True)
class Effective:
    """An option with its value as text (secrets are hidden) and its source."""

    option: str
    value: str
    source: str


def effective(config: Path | None = None) -> list[Effective]:
    """Every option with its value and source: ``default``, the file, or the environment variable. Raises SettingsInvalid."""
    settings, in_file = load(config), _read_sections(config)
    found: list[Effective] = []
    for section in Settings.model_fields:
        value = getattr(settings, section)
        options: dict[tuple[str, ...], Any]
        if isinstance(value, BaseModel):
            options = {(section, name): getattr(value, name) for name in type(value).model_fields}
        elif isinstance(value, dict):
            options = {(section, key): item for key, item in value.items()}
        else:
            options = {(section,): value}
        for path, item in options.items():
            found.append(Effective(".".join(path), _format_value(item), _find_source(path, config, in_file)))
    return found


def _find_source(path: Sequence[str], config: Path | None, in_file: Mapping[str, Any]) -> str:
    for length in range(len(path), 0, -1):
        if _is_set(path[:length]):
            return f"environment {variable(*path[:length])}"
    return str(config) if _contains(in_file, path) else "default"


def _format_value(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case SecretStr():
            return "(set, not shown)" if value.get_secret_value() else ""
        case BaseModel():
            return ", ".join(f"{name} = {_format_value(item)}" for name, item in value if item is not None)
        case list() | tuple():
            return ", ".join(map(_format_value, value))
        case dict():
            return ", ".join(f"{key} = {_format_value(item)}" for key, item in value.items())
        case _:
            return str(value)
