"""Servers are made known, adopted, or told of another definition."""

from __future__ import annotations

from strongroom import datastores
from strongroom.agent.host.users import choose_server_user
from strongroom.agent.host.versions import find_version
from strongroom.agent.models import ServerDefinition
from strongroom.agent.registry import Registry, ServerRecord
from strongroom.agent.servers.adopt import adopt
from strongroom.agent.servers.lifecycle import Lifecycle
from strongroom.agent.swap.layout import Layouts
from strongroom.errors import Conflict
from strongroom.settings import Settings
from strongroom.system.directories import make_directory
from strongroom.system.users import find_user


class Definitions:
    """The caller sees to it that one thing at a time is done to a server."""

    def __init__(self, settings: Settings, registry: Registry, lifecycle: Lifecycle, layouts: Layouts) -> None:
        self._settings = settings
        self._registry = registry
        self._lifecycle = lifecycle
        self._layouts = layouts

    def define(self, server_id: str, definition: ServerDefinition) -> None:
        """See ``Servers.define``."""
        if server_id in self._registry:
            self._redefine(self._registry.get(server_id), definition)
        elif definition.runtime == "adopted":
            adopted = adopt(self._settings, self._lifecycle.base_dir(server_id), server_id, definition)
            with self._registry.mutex:
                self._registry.require_own_data(adopted)
                self._registry.save(adopted)
            self._make_base_dir(adopted)
            self._layouts.learn(self._registry.get(server_id))
        else:
            self._add(server_id, definition)

    def _make_base_dir(self, record: ServerRecord) -> None:
        make_directory(self._lifecycle.base_dir(record.id), find_user(record.user).owner, take_over=True)

    def _add(self, server_id: str, definition: ServerDefinition) -> None:
        datastore = datastores.get(definition.datastore)
        version = find_version(self._settings, definition.datastore, definition.series)
        account = choose_server_user(self._settings, datastore)
        base_dir = self._lifecycle.base_dir(server_id)
        make_directory(base_dir, account.owner)
        for name in ("run", "log", "tmp"):
            make_directory(base_dir / name, account.owner)
        with self._registry.mutex:
            record = ServerRecord(
                id=server_id,
                definition=definition.model_copy(update={"series": version.series}),
                user=account.name,
                data_dir=base_dir / "data",
                address=self._lifecycle.addresses.allocate(datastore.default_port, self._lifecycle.taken()),
                port=datastore.default_port,
                socket=datastores.socket_path(base_dir, datastore.socket_name),
            )
            self._registry.save(record)
        datastore.configure(self._lifecycle.server(record))

    def _redefine(self, record: ServerRecord, definition: ServerDefinition) -> None:
        known = record.definition
        if (definition.runtime, definition.datastore) != (known.runtime, known.datastore):
            raise Conflict(f"server {record.id} is {known.datastore} with runtime {known.runtime}; that cannot be changed")
        if definition.runtime == "adopted":
            adopted = adopt(self._settings, self._lifecycle.base_dir(record.id), record.id, definition)
            self._registry.require_own_data(adopted)
            told = {name: getattr(adopted, name) for name in ("definition", "user", "data_dir", "address", "port", "socket")}
            record = record.model_copy(update=told)  # the rest is what became of it since
            self._registry.save(record)
            self._make_base_dir(record)  # also when that is what failed the first time
            self._layouts.learn(record)
            return
        version = find_version(self._settings, definition.datastore, definition.series)
        if version.series != known.series:
            raise Conflict(f"server {record.id} is {known.datastore} {known.series}; it cannot become {version.series}")
        if (definition.name, definition.ram_mb) != (known.name, known.ram_mb):
            record.definition = known.model_copy(update={"name": definition.name, "ram_mb": definition.ram_mb})
            self._registry.save(record)
