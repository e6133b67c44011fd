"""Notices: what the facts of a server mean for its backups and restores, with a remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from strongroom.artifact import Fact, Notice
from strongroom.datastores.postgresql.files.page_sizes import PAGE, PAGES_PER_FILE

_MOST_NAMED = 20
_ENCRYPTION = frozenset({"pg_tde", "tde_heap", "tde_heap_basic"})
_MANAGERS = {"repmgr": "repmgr", "pgautofailover": "pg_auto_failover", "bdr": "BDR"}
_WORKERS = {
    "bdr": "BDR", "citus": "Citus", "pg_cron": "pg_cron", "pg_net": "pg_net", "pg_partman_bgw": "pg_partman",
    "pg_squeeze": "pg_squeeze", "pgautofailover": "pg_auto_failover", "pglogical": "pglogical", "powa": "PoWA",
    "repmgr": "repmgr", "timescaledb": "TimescaleDB",
}  # fmt: skip
_OTHER_LOGINS = ("ldap", "gss", "sspi", "radius", "pam", "bsd", "cert", "oauth")


def name_some(names: Sequence[str]) -> str:
    """List the names; only the first ones if there are many."""
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def list_strings(facts: Mapping[str, Fact], name: str) -> list[str]:
    """A fact that is a list of strings; empty if it is missing or something else."""
    found = facts.get(name)
    return found if isinstance(found, list) else []


def judge_settings(settings: Mapping[str, str], pending: Sequence[str]) -> Iterator[Notice]:
    if pending:
        yield Notice(
            item="settings that wait for a restart",
            effect="warn",
            message=f"the next start of the server, also that of a restore in place, changes {name_some(sorted(pending))}",
        )
    if settings.get("fsync") == "off" or settings.get("full_page_writes") == "off":
        yield Notice(
            item="fsync, full_page_writes",
            effect="warn",
            message="fsync or full_page_writes is off: a crash of the host damages this database unnoticed",
            remedy="ALTER SYSTEM SET fsync = on; ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf();",
        )


def judge_control(facts: Mapping[str, Fact]) -> Iterator[Notice]:
    if facts.get("database_block_size") != PAGE or facts.get("blocks_per_segment") != PAGES_PER_FILE:
        yield Notice(
            item="block size, segment size",
            effect="refuse",
            message=f"the server was built with blocks of {facts.get('database_block_size')} bytes and files of "
            f"{facts.get('blocks_per_segment')} blocks; backups of {PAGE} and {PAGES_PER_FILE} are supported",
            remedy="Use programs that were built with the usual sizes.",
        )
    if str(facts.get("data_checksums", "")).startswith("inprogress"):
        yield Notice(
            item="data_checksums",
            effect="warn",
            message=f"data_checksums is {facts['data_checksums']}: pages are not checked in this backup",
        )


def judge_superuser(bootstrap: str, usable: Sequence[str]) -> Iterator[Notice]:
    if not usable:
        yield Notice(
            item="bootstrap superuser",
            effect="warn",
            message=f"no superuser can log in ({bootstrap} is NOLOGIN): a restore to a new instance adds a superuser for "
            "Strongroom, which can come in by the socket only",
        )


def judge_slots(slots: Sequence[tuple[str, str]], all_used: bool) -> Iterator[Notice]:
    if slots:
        yield Notice(
            item="replication slots",
            effect="warn",
            message=f"replication slots are not in the backup: {name_some([f'{name} ({kind})' for name, kind in slots])}",
            remedy="Make them again after a restore; consumers of logical slots have to start with a new copy of the tables.",
        )
    if all_used:
        yield Notice(
            item="replication slots",
            effect="warn",
            message="all replication slots are in use: a backup cannot keep the WAL that it needs, and fails when it is removed",
            remedy="Drop a slot that nobody uses, or raise max_replication_slots and restart the server.",
        )


def judge_prepared(gids: Sequence[str]) -> Iterator[Notice]:
    if gids:
        yield Notice(
            item="prepared transactions",
            effect="warn",
            message=f"prepared transactions are in the backup and hold their locks after a restore: {name_some(gids)}",
            remedy="End each with COMMIT PREPARED or ROLLBACK PREPARED, as its coordinator decided.",
        )


def judge_objects(facts: Mapping[str, Fact], plugins: Sequence[str], unread: Sequence[str]) -> Iterator[Notice]:
    extensions, methods = list_strings(facts, "extensions"), list_strings(facts, "access_methods")
    if found := sorted(_ENCRYPTION & {*extensions, *methods, *plugins}):
        yield Notice(
            item="encryption of data",
            effect="refuse",
            message=f"tables are encrypted by {name_some(found)}, whose keys are not in a backup",
            remedy="Back up a server without it, or decrypt the tables first.",
        )
    for name, product in _MANAGERS.items():
        if name in extensions or name in plugins:
            yield Notice(
                item="cluster managers",
                effect="refuse_in_place",
                message=f"{product} manages this server, and would act while it is restored in place",
                remedy=f"Stop {product} on all hosts and drop its extension first, or restore to a new instance.",
            )
    workers = sorted({_WORKERS[name] for name in {*plugins, *extensions} & _WORKERS.keys()} | set(list_strings(facts, "workers")))
    if workers:
        yield Notice(
            item="background workers",
            effect="warn",
            message=f"this server runs jobs: {name_some(workers)}; a copy with a new name does not run them",
        )
    if subscriptions := list_strings(facts, "subscriptions"):
        yield Notice(
            item="subscriptions",
            effect="warn",
            message=f"this server subscribes to others: {name_some(subscriptions)}; a copy with a new name does not",
        )
    if unread:
        yield Notice(
            item="databases",
            effect="warn",
            message=f"databases that the account of the backup could not read: {name_some(unread)}; what they need is unknown",
            remedy="GRANT CONNECT ON DATABASE … TO the account of the backup.",
        )
    others = [name for name in list_strings(facts, "login_methods") if name in _OTHER_LOGINS]
    if others:
        yield Notice(
            item="login methods",
            effect="warn",
            message=f"pg_hba.conf lets users in by {name_some(others)}; a new instance knows passwords only",
        )


def describe_unlogged(names: Sequence[str]) -> str:
    """The notice about unlogged tables, which no backup contains."""
    return f"unlogged tables and sequences are empty after a restore: {name_some(sorted(names))}"
