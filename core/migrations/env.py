"""Alembic's environment: migrations run on the connection, and in the transaction, that `core.migrator` opened."""

from alembic import context

from quarterdeck.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
