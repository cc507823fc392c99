"""Run by Alembic: applies the migrations on the connection that data/store_open.py hands over."""

from alembic import context

from data.store_schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite cannot alter a column: Alembic writes the table anew
)
with context.begin_transaction():
    context.run_migrations()
