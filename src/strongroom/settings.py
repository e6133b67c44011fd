"""Every option, declared once: the TOML file, the environment, the command line and the docs page come from here.

Precedence, highest first: command-line flags, environment (``STRONGROOM_SERVICE__PORT=8779``), the TOML file, the defaults.
Importing this module reads nothing; ``load`` does.
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
    default_flavor: str = Field("d1", description="Flavor of a new instance that names none.")

    @field_validator("flavors")
    @classmethod
    def _distinct(cls, flavors: dict[str, Flavor]) -> dict[str, Flavor]:
        ids = [*flavors, *(alias for flavor in flavors.values() for alias in flavor.aliases)]
        for name in ids:
            if ids.count(name) > 1:
                raise ValueError(f"{name} is the name or an alias of several flavors")
        return flavors

    def find_flavor(self, ref: str) -> str:
        """Name of the flavor that a name or alias means. Raises UnknownValue."""
        if ref in self.flavors:
            return ref
        for name, flavor in self.flavors.items():
            if ref in flavor.aliases:
                return name
        raise UnknownValue(
            f"flavor {ref} cannot be found",
            remedy=f"Flavors are {', '.join(self.flavors)}; other ids can be configured as aliases of a flavor.",
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
        """The users of the method ``basic``."""
        return self.identity.user_file or self.service.data_dir / "users.json"

    @property
    def store_path(self) -> Path:
        """Top of the directory store."""
        return self.storage.path or self.service.data_dir / "store"


def load(config: Path | None = None, **flags: dict[str, Any]) -> Settings:
    """Read the configuration: ``flags`` (by section) over the environment over ``config`` over the defaults.

    Raises SettingsInvalid that names the file or the variable, the option, and what was probably meant.
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
    in_file = _sections_of(config)
    known = set(Settings.model_fields)
    if unknown := sorted(set(in_file) - known):
        raise SettingsInvalid(
            f"{config}: there is no section or option {unknown[0]}",
            remedy=_suggestion(unknown[0], known) or f"Sections are {', '.join(sorted(known))}.",
        )
    try:
        settings = FromFile(**flags)  # type: ignore[arg-type]
    except ValidationError as error:
        raise _explained(error, config, in_file) from error
    except (ValueError, OSError) as error:
        raise SettingsInvalid(f"cannot read configuration {config}: {error}") from error
    return Settings.model_construct(**{name: getattr(settings, name) for name in Settings.model_fields})


def _sections_of(config: Path | None) -> dict[str, Any]:
    """What is in the file. Raises SettingsInvalid."""
    if config is None:
        return {}
    try:
        return tomllib.loads(config.read_text())
    except (ValueError, OSError) as error:
        raise SettingsInvalid(f"{config} cannot be read as TOML: {error}", remedy="See docs/configuration.md.") from error


def _explained(error: ValidationError, config: Path | None, in_file: Mapping[str, Any]) -> SettingsInvalid:
    """The mistakes in our words, with the file or variable that they are in and what was probably meant. No value is repeated."""
    mistakes, remedies = [], []
    for found in error.errors(include_input=False, include_url=False):
        path = [str(part) for part in found["loc"]]
        option = ".".join(path)
        origin = f"{config}: " if _contains(in_file, path) else f"{variable(*path)}: " if _variable_set(path) else ""
        if found["type"] == "extra_forbidden":
            options = _options_of(path[:-1])
            mistakes.append(f"{origin}there is no option {option}")
            remedies.append(_suggestion(path[-1], options, path[:-1]) or f"Options are {', '.join(sorted(options))}.")
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
    """The variable of the environment for an option."""
    return f"STRONGROOM_{'__'.join(path)}".upper()


def _variable_set(path: Sequence[str]) -> bool:
    return variable(*path) in {name.upper() for name in os.environ}


def _options_of(path: Sequence[str]) -> set[str]:
    """The names below ``path``: of a section, or of one of the tables that a section has by name."""
    field = Settings.model_fields.get(path[0]) if path else None
    if field is None:
        return set(Settings.model_fields)
    kinds = [field.annotation, *get_args(field.annotation)]
    return {name for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel) for name in kind.model_fields}


def _suggestion(word: str, known: Iterable[str], below: Sequence[str] = ()) -> str:
    """``Did you mean …?``, or nothing."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"Did you mean {'.'.join([*below, close[0]])}?" if close else ""


@dataclass(frozen=True, slots=True)
class Effective:
    """An option: its value as text (secrets are hidden), and where it comes from."""

    option: str
    value: str
    source: str


def effective(config: Path | None = None) -> list[Effective]:
    """Every option with its value and source: ``default``, the file, or the variable. Raises SettingsInvalid."""
    settings, in_file = load(config), _sections_of(config)
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
            found.append(Effective(".".join(path), _as_text(item), _source(path, config, in_file)))
    return found


def _source(path: Sequence[str], config: Path | None, in_file: Mapping[str, Any]) -> str:
    for length in range(len(path), 0, -1):
        if _variable_set(path[:length]):
            return f"environment {variable(*path[:length])}"
    return str(config) if _contains(in_file, path) else "default"


def _as_text(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case SecretStr():
            return "(set, not shown)" if value.get_secret_value() else ""
        case BaseModel():
            return ", ".join(f"{name} = {_as_text(item)}" for name, item in value if item is not None)
        case list() | tuple():
            return ", ".join(map(_as_text, value))
        case dict():
            return ", ".join(f"{key} = {_as_text(item)}" for key, item in value.items())
        case _:
            return str(value)
