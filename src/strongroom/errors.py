"""The errors of Strongroom.

    StrongroomError
    ├── InvalidRequest            400  the request is not valid
    │   └── UnknownValue          400  it names a flavor or a version that does not exist
    ├── NotAuthenticated          401  no credentials, or wrong ones
    ├── Forbidden                 403  authenticated, but not allowed
    │   └── TooLarge              403  the backup does not fit into the volume
    ├── NotFound                  404  it does not exist, or the caller may not see it
    ├── Conflict                  409  its state does not allow the operation
    │   ├── NoRoom                409  no host has enough free capacity
    │   ├── AlreadyExists         409  the name or key is taken
    │   ├── HasChildren           409  other backups depend on this one
    │   ├── Protected             409  it is protected against deletion
    │   └── LineageChanged        409  the data directory was replaced since the parent was taken
    ├── QuotaExceeded             413  a limit of the project is reached
    ├── Busy                      422  another job is running; try again later
    ├── TooManyRequests           413  too many wrong passwords; try again later
    ├── Unsupported               501  this datastore or store does not support it
    ├── Unavailable               503  a part of the service does not answer
    │   └── HostSilent            503  the agent of a host is unreachable
    │       ├── HostTimeout       503  it was reached but did not answer in time
    │       ├── HostUntrusted     503  the program at its address does not have its certificate
    │       ├── AgentBroken       503  its response does not conform to the API
    │       └── AgentMismatch     503  its version differs from that of the service
    └── JobError                  500  ends a job; its message becomes the fault of the backup or instance
        ├── ConfigurationError         settings, permissions or tools of this host are wrong
        │   └── SettingsInvalid        the file or the environment has an unknown option or a wrong value
        ├── ToolFailed                 a program failed; the message has its last lines of output
        │   ├── ToolStopped            it was killed, or stalled: this proves nothing about the data
        │   └── LogPastEnd             mariadb-backup copied log that the server never wrote
        ├── ServerFailed               the database server did not start, stop or answer
        │   ├── NotInCluster           it runs but cannot serve, because of the state of its cluster
        │   ├── NoConnections          it runs, but all its connections are in use
        │   ├── IsStandby              it runs as a standby of another server
        │   └── StillStarting          it runs and is still recovering
        ├── StorageError               the store refused a request or failed
        │   ├── StorageNotFound        no such key
        │   ├── StorageExists          a conditional create found an existing key
        │   │   ├── ArtifactExists     the backup already has a manifest
        │   │   └── LogTaken           another process writes the same log archive
        │   ├── StorageDenied          no permission, wrong credentials, or read-only
        │   ├── StorageNameInvalid     the store lists an object whose name is not a valid key
        │   └── StorageFull            no space left, or a quota is reached
        ├── ArtifactError              the stored data is not a usable backup
        │   ├── ArtifactMissing        there is no manifest, or a segment is missing
        │   ├── ArtifactCorrupt        a hash, a length or a frame is wrong
        │   │   ├── FileTwice          the backup tool wrote a file twice
        │   │   └── LogCorrupt         a record of a database's log is damaged
        │   ├── ManifestInvalid        the manifest is not valid or contradicts the store
        │   └── CannotDecrypt          no available identity decrypts it
        ├── DatabaseDamaged            pages are damaged, and the backup was requested to fail then
        ├── WalGone                    the server no longer has the log since the parent backup
        ├── VersionMismatch            versions of tool, server and backup are not compatible
        ├── NoSpace                    the target file system is too small or full
        ├── Cancelled                  a user cancelled the job
        └── JobLost                    the worker died without a result

Each has a ``code`` (a stable name for programs), a message that says what failed, and a ``remedy`` (what to do next, or empty).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class StrongroomError(Exception):
    """Base class. The message is one sentence that says what failed and why; ``remedy`` says what to do."""

    status: ClassVar[int] = 500
    output: Mapping[str, Any] | None = None
    """Output of the job that ended with this error."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    @property
    def code(self) -> str:
        """The stable name of the error for programs: its class name."""
        return type(self).__name__

    def to_dict(self) -> dict[str, str]:
        """The error for another process: ``code``, ``message``, ``remedy``."""
        return {"code": self.code, "message": self.message, "remedy": self.remedy}

    def __str__(self) -> str:
        return self.message


class InvalidRequest(StrongroomError):
    """The request is not valid, whatever the state of the service."""

    status = 400


class UnknownValue(InvalidRequest):
    """The request names a flavor or a version that does not exist. As in Trove not 404, because it is not in the path."""


class NotAuthenticated(StrongroomError):
    """No credentials, or wrong ones."""

    status = 401


class Forbidden(StrongroomError):
    """The caller is authenticated but not allowed to do this."""

    status = 403


class TooLarge(Forbidden):
    """The backup does not fit into the requested volume."""


class NotFound(StrongroomError):
    """It does not exist, or the caller may not see it. The two are not distinguished on purpose."""

    status = 404


class Conflict(StrongroomError):
    """The state of the resource does not allow the operation."""

    status = 409


class NoRoom(Conflict):
    """No host can run what is requested, because each lacks something."""


class AlreadyExists(Conflict):
    """The name is taken."""


class HasChildren(Conflict):
    """The backup is the parent of other backups."""


class Protected(Conflict):
    """It cannot be deleted until a user removes its protection."""


class LineageChanged(Conflict):
    """The data directory was replaced since the parent backup was taken; an incremental would lose rows."""


class QuotaExceeded(StrongroomError):
    """A limit of the project is reached."""

    status = 413


class Busy(StrongroomError):
    """Another job is running on the instance or the backup. The same call may succeed later."""

    status = 422


class TooManyRequests(StrongroomError):
    """Too many attempts. ``retry_after`` is the number of seconds to wait.

    413 as in Trove, because OpenStack's clients fail on a 429 with the header Retry-After.
    """

    status = 413

    def __init__(self, message: str, *, remedy: str = "", retry_after: int = 1) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after = retry_after


class Unsupported(StrongroomError):
    """The datastore, the store or the runtime does not support this."""

    status = 501


class Unavailable(StrongroomError):
    """A part of the service does not answer."""

    status = 503


class HostSilent(Unavailable):
    """The agent of a host is unreachable: it, its host or the network is down. Its jobs may still be running."""


class HostTimeout(HostSilent):
    """The agent was reached but did not answer in time. The requested operation may still be running."""


class HostUntrusted(HostSilent):
    """The program at the host's address does not have the certificate with which the host joined."""


class AgentBroken(HostSilent):
    """The response does not conform to the agent's API: a defect, or another program listens there."""


class AgentMismatch(HostSilent):
    """The versions of the agent and of the service are not compatible."""


HOST_ERRORS = frozenset(each.__name__ for each in (HostSilent, HostTimeout, HostUntrusted, AgentBroken, AgentMismatch))
"""Codes of HostSilent and its subclasses: the requested operation may still be running on the host."""


class JobError(StrongroomError):
    """Ends a job. Its message becomes the fault of the backup or of the instance."""


class ConfigurationError(JobError):
    """Settings, permissions or tools of this host are wrong."""


class SettingsInvalid(ConfigurationError):
    """The configuration file or the environment has an unknown option or a wrong value."""


class ToolFailed(JobError):
    """A program failed. The message has its name, its exit status and its last lines of output."""


class ToolStopped(ToolFailed):
    """A program was killed (by a person or a limit of the host), or stalled. This proves nothing about the data it worked on."""


class LogPastEnd(ToolFailed):
    """The redo log at the end of a backup by mariadb-backup is not that of the server: the backup cannot be prepared."""


class ServerFailed(JobError):
    """The database server did not start, stop or answer."""


class StillStarting(ServerFailed):
    """The server runs but reports that it is still starting up and recovering its data."""


class NotInCluster(ServerFailed):
    """The server runs but cannot serve as a part of its cluster, or not yet."""


class NoConnections(ServerFailed):
    """The server runs, but all its connections are in use."""


class IsStandby(ServerFailed):
    """The server runs as a standby: it replicates from another one and accepts no writes."""


class StorageError(JobError):
    """The store refused a request or failed."""


class StorageNotFound(StorageError):
    """There is no object with this key."""


class StorageExists(StorageError):
    """A conditional create found an existing object."""


class ArtifactExists(StorageExists):
    """The backup to be written already has a manifest, so it is complete."""


class LogTaken(StorageExists):
    """Another process has written the record that was to be written to a log archive."""


class StorageDenied(StorageError):
    """No permission, wrong credentials, or a read-only store."""


class StorageNameInvalid(StorageError):
    """The store lists an object whose name is not a valid key."""


class StorageFull(StorageError):
    """No space left, or a quota of the store is reached."""


class ArtifactError(JobError):
    """The stored data is not a usable backup."""


class ArtifactMissing(ArtifactError):
    """There is no manifest, or a segment that it lists is missing."""


class ArtifactCorrupt(ArtifactError):
    """A hash, a length or a frame is wrong."""


class FileTwice(ArtifactCorrupt):
    """A file occurs twice in the stream of a backup tool. Programs that unpack it omit that file and everything after it."""


class LogCorrupt(ArtifactCorrupt):
    """A record of a database's log is damaged, or does not follow the one before it."""


class ManifestInvalid(ArtifactError):
    """The manifest cannot be read, or contradicts itself or the store."""


class CannotDecrypt(ArtifactError):
    """None of the available identities decrypts the artifact."""


class DatabaseDamaged(JobError):
    """Pages of the database are damaged, and the backup was requested to fail then. They are listed in ``output["pages"]``."""


class WalGone(JobError):
    """The server no longer has the log since the parent backup. Only a full backup can be taken."""


class VersionMismatch(JobError):
    """The versions of tool, server and backup are not compatible."""


class NoSpace(JobError):
    """The target file system is too small or full."""


class Cancelled(JobError):
    """A user cancelled the job."""


class JobLost(JobError):
    """The worker died without writing a result."""


def _tree(cls: type[StrongroomError]) -> dict[str, type[StrongroomError]]:
    found = {cls.__name__: cls}
    for child in cls.__subclasses__():
        found.update(_tree(child))
    return found


def from_dict(data: dict[str, Any]) -> StrongroomError:
    """The error that ``to_dict`` described; an unknown code becomes a plain ``JobError``."""
    cls = _tree(StrongroomError).get(str(data.get("code")), JobError)
    return cls(str(data.get("message", "unknown error")), remedy=str(data.get("remedy") or ""))
