"""Install ahead what tests bring along, so that no test has to wait for it: ``python -m support.prepare`` in ``tests``."""

from __future__ import annotations

import sys

from support import keystone, mariadb_client, mysql_programs, postgresql_versions, stock, swift

if __name__ == "__main__":
    for name, install in (
        ("Swift", swift.install),
        ("Keystone", keystone.template),
        ("OpenStack's clients", stock.install),
        ("PostgreSQL 16 and 18", postgresql_versions.install),
        ("MySQL", mysql_programs.install),
        ("mariadb-dump", mariadb_client.install),
    ):
        try:
            install()
        except (OSError, RuntimeError) as error:
            print(f"{name} cannot be installed; its tests will be skipped, or fail in CI: {error}", file=sys.stderr)
