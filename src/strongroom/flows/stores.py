"""Opens the stores that hold backups. Only this module knows which store holds a backup, and the credentials for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.artifact import load_identities
from strongroom.catalog import Backup, Catalog
from strongroom.sections import Storage
from strongroom.settings import Settings
from strongroom.storage import Store, open_store
from strongroom.worker.spec import StorageSpec


class Stores:
    """The stores of the service: one for all projects or one for each project, depending on the settings."""

    def __init__(self, settings: Settings, catalog: Catalog, default: Store, token: SecretStr | None = None) -> None:
        """``default`` is the store of all projects. ``token`` is the caller's, if stores are accessed with tokens of users."""
        self._settings = settings
        self._catalog = catalog
        self.default = default
        self._token = token
        self._opened: dict[str, Store] = {}
        self._mutex = threading.Lock()

    def with_token(self, token: SecretStr | None) -> Stores:
        """The same stores, accessed with the token of this caller."""
        return Stores(self._settings, self._catalog, self.default, token)

    def holding(self, backup: Backup) -> Store:
        """The store that holds the backup or will hold it."""
        return self.of_project(backup.project)

    def of_project(self, project: str) -> Store:
        """The store for the backups of a project."""
        if not self._settings.storage.by_project:
            return self.default
        with self._mutex:
            if project not in self._opened:
                self._opened[project] = open_store(self._storage_of(project))
            return self._opened[project]

    def spec_holding(self, backup: Backup) -> StorageSpec:
        """Settings and credentials with which a worker opens the store of the backup."""
        return self.spec_of_project(backup.project)

    def spec_of_project(self, project: str) -> StorageSpec:
        """Settings and credentials with which a worker opens the store of a project."""
        storage = self._storage_of(project)
        if storage.driver == "directory":
            storage = storage.model_copy(update={"path": self._settings.store_path.resolve()})
        return StorageSpec(**{name: getattr(storage, name) for name in type(storage).model_fields})

    def all(self) -> Iterator[Store]:
        """Every store that can hold a backup of this service; none if a store needs the token of a user."""
        if self._settings.storage.by_token:
            return
        if not self._settings.storage.by_project:
            yield self.default
            return
        with self._catalog.read() as session:
            projects = list(session.scalars(select(Backup.project).distinct()))
        yield from map(self.of_project, projects)

    def has_backups(self, session: Session, project: str, container: str | None = None) -> bool:
        """Whether the catalog has completed backups of this service in the store of a project, or in one container of it."""
        known = select(Backup.id).where(Backup.deleted.is_(None), Backup.status == "COMPLETED")
        if self._settings.storage.by_project:
            known = known.where(Backup.project == project)
        if container is not None:
            place = f"{self.of_project(project).url(container)}/"
            known = known.where(Backup.container == container, Backup.location.startswith(place, autoescape=True))
        return session.scalars(known.limit(1)).first() is not None

    def identities(self) -> list[SecretStr]:
        """The age identities that decrypt backups. Raises ConfigurationError."""
        return [SecretStr(identity) for identity in load_identities(self._settings.encryption.identity_files)]

    def _storage_of(self, project: str) -> Storage:
        return self._settings.storage.of_project(project, self._token)
