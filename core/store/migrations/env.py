"""Alembic's environment: migrations run in the connection and transaction that `core.store.migrator` opened."""

from alembic import context

from quarterdeck.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
