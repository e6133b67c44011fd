"""Take a server into care that somebody else has set up."""

from __future__ import annotations

from pathlib import Path

from strongroom import datastores
from strongroom.agent.host.users import choose_adopted_user
from strongroom.agent.host.versions import list_versions
from strongroom.agent.models import ServerDefinition
from strongroom.agent.registry import ServerRecord
from strongroom.datastores import Server
from strongroom.errors import ConfigurationError, VersionMismatch
from strongroom.settings import Settings
from strongroom.system.users import current_user


def adopt(settings: Settings, base_dir: Path, server_id: str, definition: ServerDefinition) -> ServerRecord:
    """Ask a running server what it is. Raises ServerFailed, ConfigurationError, VersionMismatch."""
    datastore = datastores.get(definition.datastore)
    if definition.socket is None and definition.address is None:
        raise ConfigurationError(f"adopted server {server_id} needs a socket or an address", remedy="Say where it listens.")
    versions = list_versions(settings)
    candidates = [v for v in versions if v.datastore == definition.datastore]
    if not candidates:
        raise ConfigurationError(
            f"no programs of {definition.datastore} are installed on this host",
            remedy="Install them: backups need its tools.",
        )
    probe = Server(
        id=server_id,
        name=definition.name,
        datastore=definition.datastore,
        runtime="adopted",
        user=definition.user or current_user().name,
        base_dir=base_dir,
        data_dir=definition.data_dir or Path("/"),
        socket=definition.socket,
        address=definition.address,
        port=definition.port,
        version=candidates[0],
        defaults_file=definition.defaults_file,
        credentials_file=definition.credentials_file,
    )
    facts = datastore.ready(probe)
    fitting = [v for v in candidates if facts.version_number.startswith(f"{v.series}.")]
    if not fitting:
        raise VersionMismatch(
            f"the server is {definition.datastore} {facts.version_number}, and this host has the programs of "
            f"{', '.join(v.number for v in candidates)}",
            remedy="Install the programs of the server's version.",
        )
    if definition.series and not f"{facts.version_number}.".startswith(f"{definition.series}."):
        raise VersionMismatch(f"the server is {definition.datastore} {facts.version_number}, not {definition.series}")
    data_dir = (definition.data_dir or facts.data_dir or Path("/nonexistent")).resolve()
    if facts.data_dir is not None and facts.data_dir.resolve() != data_dir:
        raise ConfigurationError(
            f"the server has its data in {facts.data_dir}, not in {data_dir}", remedy="Check socket, address and data_dir."
        )
    account = choose_adopted_user(data_dir, definition.user)
    return ServerRecord(
        id=server_id,
        definition=definition.model_copy(update={"series": fitting[0].series}),
        user=account.name,
        data_dir=data_dir,
        address=definition.address,
        port=definition.port,
        socket=definition.socket,
        wanted="running",
    )
