"""Options for the prepare of a backup: plugins and keys of this installation in place of those that the backup names."""

from __future__ import annotations

import re
from pathlib import Path

from strongroom.artifact import Profile
from strongroom.datastores.innodb.options import format_options
from strongroom.datastores.innodb.prepare import FILE, keep_allowed, read_backup_options
from strongroom.datastores.mariadb.server import plugins, settings
from strongroom.datastores.protocol.servers import Server, Version
from strongroom.errors import ConfigurationError
from strongroom.system.children import run_program
from strongroom.system.files import write_file
from strongroom.system.users import find_owner


def read_keys(server: Server | None) -> dict[str, str]:
    """Options of file_key_management that the owner of the server has set. Raises ConfigurationError if there are none."""
    options = read_owner_options(server) if server is not None and server.is_adopted else {}
    if not options.get("file_key_management_filename"):
        raise ConfigurationError(
            "the data of this backup is encrypted by its server, and no keys are known here: they are not in the backup",
            remedy="Restore in place, where the option file of the server names the keys (file_key_management_filename); or by "
            "hand on a host that has them. A verification without --prepare needs no keys: it checks what is stored.",
        )
    return {name: value for name, value in options.items() if name == "plugin_dir" or name.startswith("file_key_management_")}


def read_owner_options(server: Server) -> dict[str, str]:
    """Options of an adopted server, as its own program reads them. Empty without an option file."""
    if server.defaults_file is None:
        return {}
    command: list[str | Path] = [server.version.programs["server"], f"--defaults-file={server.defaults_file}", "--print-defaults"]
    run = run_program(command)
    if run is None:
        return {}
    options: dict[str, str] = {}
    for word in re.split(r"\s(?=--)", " " + run.stdout.partition("\n")[2].strip()):  # values are not quoted
        match = re.fullmatch(r"--(?:loose[-_])?([A-Za-z0-9_-]+)(?:=(.*))?", word, re.DOTALL)
        if match:
            options[match[1].replace("-", "_")] = match[2] or ""
    return options


def rewrite_options(version: Version, directory: Path, profile: Profile | None, server: Server | None) -> dict[str, str]:
    """Replace the options in the stream by the allowed ones: numbers, and names of files without a path.

    Plugins are loaded by name, from the plugin directory of this installation; keys are those of ``server``, if any, by its own
    option file. Returns the settings that the data needs. Raises ConfigurationError when a plugin or keys are not here.
    """
    found = read_backup_options(directory)
    if found is None:
        return {}
    options = keep_allowed(found, {setting.name: setting.pattern for setting in settings.DEMANDED})
    names = [name for name in re.findall(r"(\w+)(?:=\w+)?", found.get("plugin_load", "")) if name in plugins.KNOWN]
    kinds = {name: plugins.KNOWN[name].kind for name in names}
    used = profile.facts if profile is not None else {"encryption": "?", "page compression": True}
    lacking = [name for name, kind in kinds.items() if kind == "provider" and not plugins.is_installed(version, name)]
    if lacking and used.get("page compression"):
        raise ConfigurationError(
            f"the backup needs plugins that are not installed on this host: {', '.join(lacking)}",
            remedy=f"Install them for MariaDB {version.series}.",
        )
    libraries = {plugins.KNOWN[name].library for name, kind in kinds.items() if kind == "provider" and name not in lacking}
    program = version.programs["server"]
    place = plugins.find_plugin_dir(program, program.parent.parent)
    if "keys" in kinds.values() and used.get("encryption"):
        keys = read_keys(server)
        place = Path(keys.pop("plugin_dir", str(place)))
        libraries.add("file_key_management")
        options |= keys
    if libraries:
        options |= {"plugin_dir": place, "plugin_load": ";".join(sorted(libraries))}
    write_file(directory / FILE, format_options("mysqld", options), find_owner(directory))
    return {
        name: str(options[name]) for name in settings.select_demanded({k: str(v) for k, v in options.items()}) if name in options
    }
