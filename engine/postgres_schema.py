"""The tables of a store on PostgreSQL, made and upgraded by `tocsin migrate` and by nothing else.

Three schemas: `ledger` (the log and what is kept beside it), `keys` (the vault), `views` (disposable). The role that Tocsin runs
as may add events and read them, and no statement of it can change or remove one; that needs the owner's hand.
"""

from typing import Any, Final

import psycopg
from psycopg import sql

from engine.errors import TocsinError
from engine.store import SCHEMA_VERSION

# Two migrations at once: the second one waits and finds everything done.
_MIGRATION_LOCK: Final = 0x746F63736D69

_LEDGER: Final = """
CREATE SCHEMA IF NOT EXISTS ledger;
CREATE TABLE IF NOT EXISTS ledger.events (
    position    bigint  PRIMARY KEY,
    stream      bytea   NOT NULL,
    version     integer NOT NULL,
    type        text    NOT NULL,
    state       bytea   NOT NULL,
    recorded_at bigint  NOT NULL,                 -- µs since 1970, never decreasing along positions
    actor       text    NOT NULL,
    correlation bytea   NOT NULL,
    cause       text,
    UNIQUE (stream, version)                      -- reading a stream; and the backstop against a lost update
);
CREATE TABLE IF NOT EXISTS ledger.counters (kind text PRIMARY KEY, last bigint NOT NULL);
CREATE TABLE IF NOT EXISTS ledger.bodies (
    digest bytea PRIMARY KEY, length bigint NOT NULL, key bytea NOT NULL, sealed bytea NOT NULL, recorded_at bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS ledger.rejected_bytes (source text NOT NULL, day text NOT NULL, bytes bigint NOT NULL, PRIMARY KEY (source, day));
CREATE TABLE IF NOT EXISTS ledger.timers (timer bytea PRIMARY KEY, owner bytea NOT NULL, purpose text NOT NULL, due_at bigint NOT NULL);
CREATE INDEX IF NOT EXISTS timers_by_due ON ledger.timers (due_at);
CREATE TABLE IF NOT EXISTS ledger.answers (
    principal text NOT NULL, route text NOT NULL, key text NOT NULL, request bytea NOT NULL, status integer NOT NULL,
    headers text NOT NULL, sealed bytea NOT NULL, recorded_at bigint NOT NULL, PRIMARY KEY (principal, route, key)
);
CREATE INDEX IF NOT EXISTS answers_by_age ON ledger.answers (recorded_at);
CREATE TABLE IF NOT EXISTS ledger.snapshots (stream bytea PRIMARY KEY, version integer NOT NULL, state bytea NOT NULL);
CREATE TABLE IF NOT EXISTS ledger.handles (handle bytea PRIMARY KEY, person bytea NOT NULL);
CREATE TABLE IF NOT EXISTS ledger.accounts (person bytea PRIMARY KEY, login text NOT NULL UNIQUE, password text, role text NOT NULL);
CREATE TABLE IF NOT EXISTS ledger.credentials (
    digest bytea PRIMARY KEY, principal bytea NOT NULL, role text NOT NULL, source text, expires_at bigint, csrf text
);
CREATE TABLE IF NOT EXISTS ledger.cursors (name text PRIMARY KEY, position bigint NOT NULL);
CREATE TABLE IF NOT EXISTS ledger.leases (name text PRIMARY KEY, holder text NOT NULL, token bigint NOT NULL, until bigint NOT NULL);
CREATE TABLE IF NOT EXISTS ledger.meta (key text PRIMARY KEY, value text NOT NULL);
CREATE SCHEMA IF NOT EXISTS keys;
CREATE TABLE IF NOT EXISTS keys.keys (id bytea PRIMARY KEY, wrapped bytea NOT NULL);
CREATE SCHEMA IF NOT EXISTS views;
"""
# Compressing sealed bytes gains nothing and costs time.
_STORAGE: Final = """
ALTER TABLE ledger.bodies ALTER COLUMN sealed SET STORAGE EXTERNAL;
ALTER TABLE ledger.answers ALTER COLUMN sealed SET STORAGE EXTERNAL;
"""
_CHANGING: Final = "UPDATE, DELETE, TRUNCATE"


class NotMigrated(TocsinError):
    """The database has no tables of Tocsin, or those of another version."""


def migrate(address: str, *, role: str | None = None) -> str:
    """Make the tables, or bring them up to this version; the version that they had before ("" for none).

    Args:
        address: of the database, as the role that shall own the tables.
        role: the one that Tocsin runs as; None: the owner itself, whose own right to change events is taken away.

    Raises:
        NotMigrated: they are of a newer Tocsin, or the database can't be reached or refuses.
    """
    try:
        return _migrate(address, role)
    except psycopg.Error as error:
        raise NotMigrated(f"the database cannot be migrated: {str(error).partition(chr(10))[0]}") from error


def _migrate(address: str, role: str | None) -> str:
    with psycopg.connect(address, connect_timeout=10) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
        before = version_of(connection)
        if before and int(before) > int(SCHEMA_VERSION):
            raise NotMigrated(f"the database is of a newer Tocsin (schema {before}); use that one")
        connection.execute(_LEDGER)
        if not before:
            connection.execute(_STORAGE)
        connection.execute(
            "INSERT INTO ledger.meta (key, value) VALUES ('schema_version', %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (SCHEMA_VERSION,),
        )
        connection.execute(f"REVOKE {_CHANGING} ON ledger.events FROM PUBLIC, CURRENT_USER")
        if role is not None:
            _grant(connection, role)
    return before


def _grant(connection: "psycopg.Connection[Any]", role: str) -> None:
    named = sql.Identifier(role)
    for statement in (
        "GRANT USAGE ON SCHEMA ledger, keys TO {}", "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ledger, keys TO {}",
        f"REVOKE {_CHANGING} ON ledger.events FROM {{}}", "GRANT USAGE, CREATE ON SCHEMA views TO {}",
    ):
        connection.execute(sql.SQL(statement).format(named))
    # Each generation of the views is a schema of its own.
    connection.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(sql.Identifier(connection.info.dbname), named))


def version_of(connection: "psycopg.Connection[Any]") -> str:
    """The version of the tables there; "" where there are none."""
    there = connection.execute("SELECT to_regclass('ledger.meta')").fetchone()
    if there is None or there[0] is None:
        return ""
    row = connection.execute("SELECT value FROM ledger.meta WHERE key = 'schema_version'").fetchone()
    return row[0] if row else ""
