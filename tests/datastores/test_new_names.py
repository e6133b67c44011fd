"""Names of databases and users that a create request is refused for, before there is a server."""

from __future__ import annotations

import pytest

from strongroom import datastores
from strongroom.datastores import DatabaseSpec, UserSpec
from strongroom.errors import InvalidRequest

RESERVED = {
    "mariadb": (["mysql", "MySQL", "sys", "information_schema", "Performance_Schema"], ["root", "ROOT", "mariadb.sys", "mysql"]),
    "mysql": (["mysql", "SYS", "information_schema", "performance_schema"], ["root", "mysql.session", "mysql.sys"]),
    "postgresql": (
        ["postgres", "Template0", "template1", "pg_x"],
        ["root", "Root", "postgres", "public", "pg_x", "a:owner"],
    ),
}


@pytest.mark.parametrize("name", datastores.list_names())
def test_reserved_names_are_refused(name: str) -> None:
    sql = datastores.get(name).require_administration()
    databases, users = RESERVED[name]
    for database in databases:
        with pytest.raises(InvalidRequest, match="reserved"):
            sql.databases.check([DatabaseSpec(name=database)])
        with pytest.raises(InvalidRequest, match="reserved"):
            sql.users.check([UserSpec(name="u", password="p", databases=[database])])
    for user in users:
        with pytest.raises(InvalidRequest, match="reserved"):
            sql.users.check([UserSpec(name=user, password="p")])
    with pytest.raises(InvalidRequest, match="password"):
        sql.users.check([UserSpec(name="u")])
    sql.databases.check([DatabaseSpec(name="db1")])
    sql.users.check([UserSpec(name="rooty", password="p", databases=["db1"])])
