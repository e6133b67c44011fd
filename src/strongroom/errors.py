"""Every error that Strongroom raises on purpose.

    StrongroomError
    ├── InvalidRequest            400  what was asked for makes no sense
    │   └── UnknownValue          400  it names a flavor or a version that is not there
    ├── NotAuthenticated          401  no credentials, or wrong ones
    ├── Forbidden                 403  known, but not allowed
    │   └── TooLarge              403  the backup does not fit the volume
    ├── NotFound                  404  no such thing
    ├── Conflict                  409  the thing is in a state that does not allow it
    │   ├── NoRoom                409  no host can take what is asked for
    │   ├── AlreadyExists         409  the name or key is taken
    │   ├── HasChildren           409  a backup that others depend on
    │   ├── Protected             409  it must not be deleted
    │   └── LineageChanged        409  the data directory was replaced since the parent was taken
    ├── QuotaExceeded             413
    ├── Busy                      422  something else is running there; try again later
    ├── TooManyRequests           413  too many wrong passwords; try again later
    ├── Unsupported               501  this datastore or store cannot do it
    ├── Unavailable               503  a part of the service does not answer
    │   └── HostSilent            503  the agent of a host cannot be reached
    │       ├── HostTimeout       503  it was reached, and did not answer in time
    │       ├── HostUntrusted     503  what answers at its address does not have its certificate
    │       ├── AgentBroken       503  it answered with an error that is not of its API
    │       └── AgentMismatch     503  it is of another version than the service
    └── JobError                  500  what ends a job; its text becomes the fault of the backup or instance
        ├── ConfigurationError         settings, permissions or tools of this host are wrong
        │   └── SettingsInvalid        the file or the environment has an unknown option or a wrong value
        ├── ToolFailed                 a program that we ran failed; carries its last lines
        │   └── ToolStopped            a limit of the host, somebody or a stall ended it: nothing follows for its data
        ├── ServerFailed               the database server did not start, stop or answer
        │   ├── NotInCluster           the server runs, but its cluster does not let it serve
        │   ├── NoConnections          the server runs, but all its connections are taken
        │   ├── IsStandby              the server runs as the standby of another
        │   └── StillStarting          the server runs and recovers; it will serve later
        ├── StorageError               the store refused or failed
        │   ├── StorageNotFound        no such key
        │   ├── StorageExists          a conditional create met an existing key
        │   │   └── ArtifactExists     the backup has its manifest already
        │   ├── StorageDenied          no permission, bad credentials, read-only
        │   ├── StorageNameInvalid     the store lists an object whose name no key can have
        │   └── StorageFull            no space or quota
        ├── ArtifactError              what is stored is not a good backup
        │   ├── ArtifactMissing        no manifest, or a segment is not there
        │   ├── ArtifactCorrupt        a hash, a length or a frame is wrong
        │   │   └── FileTwice          the backup tool wrote a file twice
        │   ├── ManifestInvalid        the manifest is not one, or lies
        │   └── CannotDecrypt          no identity opens it
        ├── DatabaseDamaged            pages of the database are damaged, and the backup was to fail then
        ├── WalGone                    the log since the parent backup is not there any more
        ├── VersionMismatch            tool, server and backup versions do not fit each other
        ├── NoSpace                    the target file system is too small
        ├── Cancelled                  somebody cancelled the job
        └── JobLost                    the worker died without a result

Each has a ``code`` (a stable word for programs), a message that names the thing, and a ``remedy`` (what to do next, or empty).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class StrongroomError(Exception):
    """Base of the tree: ``str(error)`` is one sentence that names the thing; ``remedy`` says what to do."""

    status: ClassVar[int] = 500
    output: Mapping[str, Any] | None = None
    """What the job that it ends has found out all the same."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    @property
    def code(self) -> str:
        """The stable name of the error for programs: its class name."""
        return type(self).__name__

    def to_dict(self) -> dict[str, str]:
        """The form in which an error crosses a process boundary: ``code``, ``message``, ``remedy``."""
        return {"code": self.code, "message": self.message, "remedy": self.remedy}

    def __str__(self) -> str:
        return self.message


class InvalidRequest(StrongroomError):
    """What was asked for makes no sense, whatever the state of things."""

    status = 400


class UnknownValue(InvalidRequest):
    """The request names a flavor or a version that is not there: not 404, as in Trove, for it is no part of the path."""


class NotAuthenticated(StrongroomError):
    """No credentials, or wrong ones."""

    status = 401


class Forbidden(StrongroomError):
    """The caller is known but may not do this."""

    status = 403


class TooLarge(Forbidden):
    """The backup does not fit into the volume that was asked for."""


class NotFound(StrongroomError):
    """No such thing, or not visible to the caller: the two look the same on purpose."""

    status = 404


class Conflict(StrongroomError):
    """The thing is in a state that does not allow it."""

    status = 409


class NoRoom(Conflict):
    """No host can take what is asked for: each lacks something."""


class AlreadyExists(Conflict):
    """The name is taken."""


class HasChildren(Conflict):
    """The backup is the parent of others."""


class Protected(Conflict):
    """It must not be deleted until somebody takes its protection back."""


class LineageChanged(Conflict):
    """The data directory was replaced since the parent backup was taken; an incremental would lose rows."""


class QuotaExceeded(StrongroomError):
    """A limit of the project is reached."""

    status = 413


class Busy(StrongroomError):
    """Something else is running on the instance or the backup; the same call may work later."""

    status = 422


class TooManyRequests(StrongroomError):
    """Asked too often; ``retry_after`` is the number of seconds to wait.

    413 as in Trove: OpenStack's clients break at a 429 that has the header Retry-After.
    """

    status = 413

    def __init__(self, message: str, *, remedy: str = "", retry_after: int = 1) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after = retry_after


class Unsupported(StrongroomError):
    """The datastore, the store or the runtime cannot do this."""

    status = 501


class Unavailable(StrongroomError):
    """A part of the service does not answer."""

    status = 503


class HostSilent(Unavailable):
    """The agent of a host cannot be reached: it, its machine or the network is down. What it was doing may go on."""


class HostTimeout(HostSilent):
    """The agent was reached, and did not answer in time. What it was asked to do may go on."""


class HostUntrusted(HostSilent):
    """What answers at the address of the host does not have the certificate that the host joined with."""


class AgentBroken(HostSilent):
    """The agent answered with an error that is not of its API: a defect, or something else listens there."""


class AgentMismatch(HostSilent):
    """The agent does not understand us, or we do not understand it: it is of another version."""


HOST_ERRORS = frozenset(each.__name__ for each in (HostSilent, HostTimeout, HostUntrusted, AgentBroken, AgentMismatch))
"""Codes of HostSilent in all its classes: what was asked of the host may go on there."""


class JobError(StrongroomError):
    """What ends a job; the text becomes the fault of the backup or of the instance."""


class ConfigurationError(JobError):
    """Settings, permissions or tools of this host are wrong."""


class SettingsInvalid(ConfigurationError):
    """The configuration file or the environment has an unknown option or a wrong value."""


class ToolFailed(JobError):
    """A program that we ran failed; the message carries its name, its exit status and its last lines."""


class ToolStopped(ToolFailed):
    """A program was ended by a limit of the host, by somebody, or since it hung: nothing follows for what it worked on."""


class ServerFailed(JobError):
    """The database server did not start, stop or answer."""


class StillStarting(ServerFailed):
    """The server runs and recovers its data: it says itself that it is starting up."""


class NotInCluster(ServerFailed):
    """The server runs, but is not, or not yet, a serving part of its cluster."""


class NoConnections(ServerFailed):
    """The server runs, but has no free connection."""


class IsStandby(ServerFailed):
    """The server runs as a standby: it follows another one and takes no writes."""


class StorageError(JobError):
    """The store refused or failed."""


class StorageNotFound(StorageError):
    """No object under this key."""


class StorageExists(StorageError):
    """A conditional create met an existing object."""


class ArtifactExists(StorageExists):
    """The backup that should be written has its manifest already: it is complete."""


class StorageDenied(StorageError):
    """No permission, bad credentials, or a read-only store."""


class StorageNameInvalid(StorageError):
    """The store lists an object whose name no key can have."""


class StorageFull(StorageError):
    """No space left, or a quota of the store is reached."""


class ArtifactError(JobError):
    """What is stored is not a good backup."""


class ArtifactMissing(ArtifactError):
    """There is no manifest, or a segment that it names is not there."""


class ArtifactCorrupt(ArtifactError):
    """A hash, a length or a frame is wrong."""


class FileTwice(ArtifactCorrupt):
    """A file is in the stream of a backup tool twice; the programs that unpack it leave out that file and all that follows."""


class ManifestInvalid(ArtifactError):
    """The manifest cannot be read, or contradicts itself or the store."""


class CannotDecrypt(ArtifactError):
    """None of the identities at hand opens the artifact."""


class DatabaseDamaged(JobError):
    """Pages of the database are damaged, and the backup was to fail then. ``output`` has them as ``pages``."""


class WalGone(JobError):
    """The log since the parent backup is not on the server any more: only a full backup can be taken."""


class VersionMismatch(JobError):
    """Tool, server and backup versions do not fit each other."""


class NoSpace(JobError):
    """The target file system is too small or full."""


class Cancelled(JobError):
    """Somebody cancelled the job."""


class JobLost(JobError):
    """The worker died without leaving a result."""


def _tree(cls: type[StrongroomError]) -> dict[str, type[StrongroomError]]:
    found = {cls.__name__: cls}
    for child in cls.__subclasses__():
        found.update(_tree(child))
    return found


def from_dict(data: dict[str, Any]) -> StrongroomError:
    """The error that ``to_dict`` described; an unknown code becomes a plain ``JobError``."""
    cls = _tree(StrongroomError).get(str(data.get("code")), JobError)
    return cls(str(data.get("message", "unknown error")), remedy=str(data.get("remedy") or ""))
