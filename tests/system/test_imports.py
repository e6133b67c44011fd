"""Libraries that are not loaded, or only when they are needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from strongroom.system.imports import hide_packages

RARE = {
    *("rich", "typer", "pygments", "alembic", "psycopg", "cryptography", "numpy", "obstore", "swiftclient", "keystoneauth1"),
    *("requests", "pyrage", "yaml", "strongroom.cli.app", "strongroom.cli.session", "strongroom.datastores.mariadb.driver"),
    *("strongroom.datastores.mysql.driver", "strongroom.datastores.postgresql.driver"),
    *("click", "croniter", "dateutil.parser", "uvicorn.main", "prometheus_client"),
    *("sqlalchemy.dialects.postgresql.asyncpg", "sqlalchemy.dialects.sqlite.aiosqlite"),
}
"""What an idle service has no use for: 50 MB."""
SERVICE = (
    "import strongroom.cli.commands.local.processes, strongroom.api.service, strongroom.agent.service, sys; print(*sys.modules)"
)


def test_a_service_loads_nothing_that_it_needs_rarely() -> None:
    loaded = subprocess.run([sys.executable, "-c", SERVICE], capture_output=True, text=True, check=True).stdout.split()
    assert "dbos" in loaded
    assert RARE & {*loaded} == set()


def test_a_hidden_package_cannot_be_imported_until_the_end() -> None:
    sys.modules.pop("this", None)
    with hide_packages("this", "json"), pytest.raises(ImportError):
        import this  # noqa: F401
    assert "this" not in sys.modules and "json" in sys.modules


def test_a_deferred_name_loads_its_module_when_it_is_used() -> None:
    code = """
import sys
from strongroom.system.imports import defer_names
with defer_names("wsgiref.headers", "Headers", "_formatparam"):
    from wsgiref.headers import Headers, _formatparam
assert "wsgiref.headers" not in sys.modules
assert _formatparam("a", "b") == 'a="b"'
assert "wsgiref.headers" in sys.modules
assert Headers([("a", "1")])["A"] == "1" and Headers.add_header
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_deferred_module_is_loaded_by_its_first_use() -> None:
    code = """
import sys
from strongroom.system.imports import defer_modules
with defer_modules("wsgiref", "wsgiref.headers"):
    import wsgiref
    from wsgiref import headers
assert not {"wsgiref", "wsgiref.headers"} & {*sys.modules}
assert headers.Headers([("a", "1")])["A"] == "1"
assert isinstance(wsgiref.headers.Headers([]), sys.modules["wsgiref.headers"].Headers)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
