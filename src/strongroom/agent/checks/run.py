"""Runs checks. Each group checks one thing, and its error is one more result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from strongroom.agent.checks import host as checks
from strongroom.agent.checks.check import Check, CheckRequest
from strongroom.agent.checks.server import check_adopted
from strongroom.agent.checks.store import check_encryption, check_store
from strongroom.errors import StrongroomError
from strongroom.settings import Settings
from strongroom.worker.spec import StorageSpec

_Checker = tuple[str, Callable[[Settings], Iterator[Check]]]
_OF_HOST: tuple[_Checker, ...] = (
    ("datastores", checks.check_datastores),
    ("tools", checks.check_tools),
    ("data directory", checks.check_data_dir),
    ("addresses", checks.check_pool),
    ("adopted servers", check_adopted),
    ("clock", checks.check_clock),
    ("limits", checks.check_limits),
)


def check_service(settings: Settings) -> list[Check]:
    """Check what only the service itself has: keys for encryption. Never raises."""
    return _run([("encryption", check_encryption)], settings)


def check_host(settings: Settings, request: CheckRequest) -> list[Check]:
    """Check a host as the jobs of the control plane would find it. Never raises.

    Writes, reads and deletes one small object in the store, and changes nothing else.
    """

    def store(_settings: Settings) -> Iterator[Check]:
        if request.storage is None:
            yield Check(name="store", level="ok", message="used with the tokens of its users, so not tested here")
        else:
            yield from check_store(settings, request.storage)

    unused = [] if request.embedded else [("configuration", checks.check_unused)]
    return _run([*_OF_HOST, *unused, ("store", store)], settings)


def run_checks(settings: Settings) -> list[Check]:
    """Check everything on one machine without a service. Never raises."""
    storage = settings.storage.model_copy(update={"path": settings.store_path.absolute()})
    spec = None if storage.by_token else StorageSpec(**{name: getattr(storage, name) for name in type(storage).model_fields})
    return [*check_host(settings, CheckRequest(storage=spec, embedded=True)), *check_service(settings)]


def _run(checks: Sequence[_Checker], settings: Settings) -> list[Check]:
    found: list[Check] = []
    for name, check in checks:
        try:
            found.extend(check(settings))
        except StrongroomError as error:
            found.append(Check(name=name, level="error", message=error.message, remedy=error.remedy))
        except OSError as error:
            found.append(Check(name=name, level="error", message=f"cannot be checked: {error}"))
    return found
