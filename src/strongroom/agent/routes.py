"""The agent's API: each route once, from which the application and the client are made.

A reply of None has no body. Values that may hold any character, such as names of databases, are in the query.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from strongroom.agent.checks import Check, CheckRequest
from strongroom.agent.models import (
    AccountQuery,
    Activation,
    Canary,
    DatabaseQuery,
    DutyRequest,
    DutyView,
    GrantQuery,
    HostView,
    JobQuery,
    PlanRequest,
    RestorePoint,
    RootAccount,
    RootState,
    Seed,
    ServerDefinition,
    ServerView,
    Start,
    StopQuery,
    SumTables,
    Swap,
)
from strongroom.artifact import Notice
from strongroom.datastores import DatabaseSpec, GaleraMember, GaleraPosition, GaleraView, TableSums, UserChange, UserSpec
from strongroom.worker.spec import JobRequest, JobView

Reply = TypeVar("Reply")


@dataclass(frozen=True, slots=True)
class Route(Generic[Reply]):
    """One operation of the API. Ids in braces; types of the reply, the body and the query, as pydantic knows them."""

    method: str
    path: str
    reply: type[Reply]
    body: Any = None
    query: Any = None
    is_slow: bool = False
    """It takes as long as the settings of its host allow: stopping, starting and removing large servers."""

    def url(self, *ids: str) -> str:
        """The path for these ids."""
        parts = iter(ids)
        return "/".join(quote(next(parts), safe="") if part.startswith("{") else part for part in self.path.split("/"))


PUT_JOB = Route("PUT", "/jobs/{job}", JobView, JobRequest)
GET_JOB = Route("GET", "/jobs/{job}", JobView, query=JobQuery)
LIST_JOBS = Route("GET", "/jobs", list[JobView])
CANCEL_JOB = Route("DELETE", "/jobs/{job}", JobView)

PUT_DUTY = Route("PUT", "/duties/{duty}", DutyView, DutyRequest)
GET_DUTY = Route("GET", "/duties/{duty}", DutyView)
LIST_DUTIES = Route("GET", "/duties", list[DutyView])
DELETE_DUTY = Route("DELETE", "/duties/{duty}", type(None), is_slow=True)

GET_HOST = Route("GET", "/host", HostView)
CHECK_HOST = Route("POST", "/checks", list[Check], CheckRequest)
COMPARE_PROFILE = Route("POST", "/plan", list[Notice], PlanRequest)

LIST_SERVERS = Route("GET", "/servers", list[ServerView])
PUT_SERVER = Route("PUT", "/servers/{server}", ServerView, ServerDefinition)
GET_SERVER = Route("GET", "/servers/{server}", ServerView)
DELETE_SERVER = Route("DELETE", "/servers/{server}", type(None), is_slow=True)
START_SERVER = Route("POST", "/servers/{server}/start", ServerView, Start, is_slow=True)
STOP_SERVER = Route("POST", "/servers/{server}/stop", ServerView, query=StopQuery, is_slow=True)
RESTART_SERVER = Route("POST", "/servers/{server}/restart", ServerView, is_slow=True)
SWAP = Route("POST", "/servers/{server}/swap", ServerView, Swap, is_slow=True)
UNDO_SWAP = Route("POST", "/servers/{server}/swap/undo", ServerView, Swap, is_slow=True)
DISCARD_OLD = Route("POST", "/servers/{server}/discard-old", ServerView, is_slow=True)
CHECK_SERVER = Route("GET", "/servers/{server}/checks", list[Check])
DESCRIBE_ACTIVATION = Route("GET", "/servers/{server}/activation", Activation)
CREATE_POINT = Route("POST", "/servers/{server}/restore-point", str, RestorePoint)
ACTIVATE = Route("POST", "/servers/{server}/activate", ServerView, is_slow=True)

_GALERA = "/servers/{server}/galera"
PUT_GALERA = Route("PUT", _GALERA, ServerView, GaleraMember, is_slow=True)
PUT_EPOCH = Route("PUT", f"{_GALERA}/epoch", ServerView, GaleraMember)
GET_GALERA = Route("GET", _GALERA, GaleraView)
FIND_POSITION = Route("POST", f"{_GALERA}/position", GaleraPosition, is_slow=True)
PROVE_STOPPED = Route("POST", f"{_GALERA}/prove-stopped", type(None), is_slow=True)
LIST_UNREACHED = Route("GET", f"{_GALERA}/unreached", dict[str, str])
PUT_SEED = Route("PUT", f"{_GALERA}/seed", GaleraPosition, Seed, is_slow=True)
WRITE_CANARY = Route("PUT", f"{_GALERA}/canary", type(None), Canary)
READ_CANARIES = Route("GET", f"{_GALERA}/canary", list[str])
DROP_CANARIES = Route("DELETE", f"{_GALERA}/canary", type(None))
SUM_TABLES = Route("POST", f"{_GALERA}/checksums", TableSums, SumTables, is_slow=True)

LIST_DATABASES = Route("GET", "/servers/{server}/databases", list[DatabaseSpec])
CREATE_DATABASES = Route("POST", "/servers/{server}/databases", type(None), list[DatabaseSpec])
DROP_DATABASE = Route("DELETE", "/servers/{server}/databases", type(None), query=DatabaseQuery)
LIST_USERS = Route("GET", "/servers/{server}/users", list[UserSpec])
CREATE_USERS = Route("POST", "/servers/{server}/users", type(None), list[UserSpec])
DROP_USER = Route("DELETE", "/servers/{server}/users", type(None), query=AccountQuery)
CHANGE_USER = Route("PATCH", "/servers/{server}/users", type(None), UserChange, AccountQuery)
GRANT = Route("PUT", "/servers/{server}/grants", type(None), list[str], AccountQuery)
REVOKE = Route("DELETE", "/servers/{server}/grants", type(None), query=GrantQuery)
GET_ROOT = Route("GET", "/servers/{server}/root", RootState)
ENABLE_ROOT = Route("PUT", "/servers/{server}/root", str, RootAccount)
DISABLE_ROOT = Route("DELETE", "/servers/{server}/root", type(None))

ROUTES: list[Route[Any]] = [value for value in list(globals().values()) if isinstance(value, Route)]
