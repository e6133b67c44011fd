"""Alembic's entry point. Uses the connection that ``migrate`` passes to it."""

from alembic import context

from strongroom.catalog._tables import Table

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Table.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
