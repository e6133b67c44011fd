"""Accounts of a server, as far as a restore depends on them: how they log in, from which hosts, and under which conditions."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from pymysql.connections import Connection
from pymysql.cursors import Cursor

from strongroom.artifact import Notice
from strongroom.datastores.innodb.connection import query
from strongroom.datastores.innodb.paths import ACCOUNT
from strongroom.datastores.toolkit.names import name_some

_BUILT_IN = frozenset({"mysql_native_password", "mysql_old_password", "unix_socket", "socket", ""})
_ADDRESS = re.compile(r"[0-9.%_]+(/[0-9.]+)?|[0-9a-fA-F:%_.]*:[0-9a-fA-F:%_.]*|localhost|%?")


@dataclass(slots=True)
class Accounts:
    """``plugins``: accounts by the plugin that they need; ``host_names``: accounts of hosts with names."""

    plugins: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    host_names: list[str] = field(default_factory=list)
    tls: list[str] = field(default_factory=list)
    old: list[str] = field(default_factory=list)
    """Accounts with a password hash from before MySQL 4.1."""
    has_management: bool = False
    """There is an account with the name of Strongroom's own."""


def read_accounts(connection: Connection[Cursor]) -> Accounts:
    """All accounts that are not roles."""
    accounts = Accounts()
    for user, host, text in query(connection, "SELECT User, Host, Priv FROM mysql.global_priv"):
        try:
            priv = json.loads(text or "{}")
        except ValueError:
            continue
        if not isinstance(priv, dict) or priv.get("is_role"):
            continue
        name = f"{user}@{host}"
        accounts.has_management = accounts.has_management or (user == ACCOUNT and host == "localhost")
        ways = [priv, *(way for way in priv.get("auth_or", []) if isinstance(way, dict))]
        plugins = {str(way.get("plugin", "")) for way in ways}
        if plugins <= _BUILT_IN:
            if "mysql_old_password" in plugins:
                accounts.old.append(name)
        else:
            for plugin in plugins - _BUILT_IN:
                accounts.plugins[plugin].append(name)
        if not _ADDRESS.fullmatch(str(host)):
            accounts.host_names.append(name)
        if priv.get("ssl_type"):
            accounts.tls.append(name)
    return accounts


def judge_accounts(accounts: Accounts, *, adopted: bool, account: str) -> Iterator[Notice]:
    """Notices about accounts. ``account`` is the user that Strongroom connects as."""
    for plugin, names in sorted(accounts.plugins.items()):
        yield Notice(
            item="accounts by plugin",
            effect="warn",
            message=f"accounts that need plugin {plugin} to log in: {name_some(names)}",
        )
    if accounts.tls:
        yield Notice(
            item="REQUIRE X509, ISSUER or SUBJECT",
            effect="warn",
            message=f"accounts that require TLS: {name_some(accounts.tls)}",
            remedy="Certificates are not in the backup: install certificates of the same authority on a new server.",
        )
    if accounts.has_management and adopted and account != ACCOUNT:
        yield Notice(
            item="account strongroom@localhost",
            effect="refuse_new",
            message=f"the account {ACCOUNT}@localhost of the owner would become the management account of a new instance",
            remedy=f"RENAME USER {ACCOUNT}@localhost TO another name, then back up again.",
        )
