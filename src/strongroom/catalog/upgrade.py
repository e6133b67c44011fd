"""Runs the missing Alembic migrations in a process of its own: the service would keep the 10 MB that Alembic loads.

The URL of the database is read from stdin, because it may contain a password.
"""

from __future__ import annotations

import sys

from alembic import command
from alembic.config import Config
from sqlalchemy import make_url

from strongroom.catalog._engine import MIGRATIONS, open_engine


def main() -> None:
    """Upgrade the catalog to the newest revision, in one transaction."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with open_engine(make_url(sys.stdin.read())).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


if __name__ == "__main__":
    main()
