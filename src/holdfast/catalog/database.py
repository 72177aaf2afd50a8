"""Opening the catalog, and transactions on it. SQLite or PostgreSQL, the same everywhere above.

A commit that has returned is durable (SQLite: WAL with synchronous FULL). Reading never waits for
writing. Writers on SQLite queue up at BEGIN, not in the middle.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event, make_url, text
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError

from holdfast.catalog import tables
from holdfast.catalog.rows import Rows
from holdfast.core import records
from holdfast.core.errors import (
    CatalogError,
    CatalogUnreachableError,
    RecordExistsError,
    StorageFullError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine import URL

_WAIT = 30.0
"""Seconds a writer waits for the one before."""
_DAMAGE = ("no such", "malformed")
"""Of a table, a column or a schema that cannot be missing or wrong in a sound database."""
_MOST = 20
"""Problems that are told."""


class Transaction:
    """The nouns of the catalog within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.afterwards: list[Callable[[], None]] = []

    def after_commit(self, act: Callable[[], None]) -> None:
        """Has `act` called once this transaction is durable; never where it is undone. What is
        written cannot be undone any more then, so `act` raises nothing.
        """
        self.afterwards.append(act)

    def wrote(self, noun: str, columns: Iterable[str]) -> bool:
        """Whether one of these columns was written of the rows that are called so here."""
        rows = vars(self).get(noun)
        return rows is not None and not rows.written.isdisjoint(columns)

    def now(self) -> int:
        """The database's own clock, nanoseconds since 1970: the same for all nodes."""
        if self.connection.dialect.name == "sqlite":
            query = "SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) * 1000000"
        else:
            query = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT) * 1000"
        return int(self.connection.scalar(text(query)) or 0)

    @cached_property
    def pools(self) -> Rows[records.Pool]:
        return Rows(self.connection, tables.pool, records.Pool)

    @cached_property
    def repositories(self) -> Rows[records.RepositoryRecord]:
        return Rows(self.connection, tables.repository, records.RepositoryRecord)

    @cached_property
    def hosts(self) -> Rows[records.Host]:
        return Rows(self.connection, tables.host, records.Host)

    @cached_property
    def agents(self) -> Rows[records.Agent]:
        return Rows(self.connection, tables.agent, records.Agent)

    @cached_property
    def agent_orders(self) -> Rows[records.AgentOrder]:
        return Rows(self.connection, tables.agent_order, records.AgentOrder)

    @cached_property
    def targets(self) -> Rows[records.Target]:
        return Rows(self.connection, tables.target, records.Target)

    @cached_property
    def backups(self) -> Rows[records.Backup]:
        return Rows(self.connection, tables.backup, records.Backup)

    @cached_property
    def uploads(self) -> Rows[records.Upload]:
        return Rows(self.connection, tables.upload, records.Upload)

    @cached_property
    def plans(self) -> Rows[records.Plan]:
        return Rows(self.connection, tables.plan, records.Plan)

    @cached_property
    def tasks(self) -> Rows[records.Task]:
        return Rows(self.connection, tables.task, records.Task)

    @cached_property
    def task_lines(self) -> Rows[records.TaskLine]:
        return Rows(self.connection, tables.task_line, records.TaskLine)

    @cached_property
    def nodes(self) -> Rows[records.Node]:
        return Rows(self.connection, tables.node, records.Node)

    @cached_property
    def leases(self) -> Rows[records.Lease]:
        return Rows(self.connection, tables.lease, records.Lease)

    @cached_property
    def users(self) -> Rows[records.User]:
        return Rows(self.connection, tables.user, records.User)

    @cached_property
    def tokens(self) -> Rows[records.Token]:
        return Rows(self.connection, tables.token, records.Token)

    @cached_property
    def accounts(self) -> Rows[records.Account]:
        return Rows(self.connection, tables.account, records.Account)

    @cached_property
    def sessions(self) -> Rows[records.Session]:
        return Rows(self.connection, tables.session, records.Session)

    @cached_property
    def guesses(self) -> Rows[records.Guess]:
        return Rows(self.connection, tables.guess, records.Guess)

    @cached_property
    def audit(self) -> Rows[records.AuditRecord]:
        return Rows(self.connection, tables.audit, records.AuditRecord)

    @cached_property
    def settings(self) -> Rows[records.Setting]:
        return Rows(self.connection, tables.setting, records.Setting)

    @cached_property
    def client_groups(self) -> Rows[records.ClientGroup]:
        return Rows(self.connection, tables.client_group, records.ClientGroup)

    @cached_property
    def media_servers(self) -> Rows[records.MediaServer]:
        return Rows(self.connection, tables.media_server, records.MediaServer)

    @cached_property
    def user_groups(self) -> Rows[records.UserGroup]:
        return Rows(self.connection, tables.user_group, records.UserGroup)

    @cached_property
    def supervisors(self) -> Rows[records.Supervisor]:
        return Rows(self.connection, tables.supervisor, records.Supervisor)

    @cached_property
    def administrators(self) -> Rows[records.Administrator]:
        return Rows(self.connection, tables.administrator, records.Administrator)

    @cached_property
    def maintainers(self) -> Rows[records.Maintainer]:
        return Rows(self.connection, tables.maintainer, records.Maintainer)

    @cached_property
    def token_families(self) -> Rows[records.TokenFamily]:
        return Rows(self.connection, tables.token_family, records.TokenFamily)

    @cached_property
    def journal(self) -> Rows[records.JournalLine]:
        return Rows(self.connection, tables.journal, records.JournalLine)

    @cached_property
    def samples(self) -> Rows[records.Sample]:
        return Rows(self.connection, tables.sample, records.Sample)


class Catalog:
    """One open catalog; safe for threads. `url` is SQLAlchemy's; a bare path is SQLite."""

    def __init__(self, url: str, *, pool_size: int = 8) -> None:
        self.url = _full(url)
        self.engine = _engine(self.url, pool_size)
        self._watches: list[Callable[[Transaction], None]] = []

    @property
    def embedded(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    def watch(self, look: Callable[[Transaction], None]) -> None:
        """Has `look` called at the end of every transaction that writes, within it."""
        self._watches.append(look)

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A transaction that sees one moment and changes nothing."""
        with told(), self.engine.connect() as connection, connection.begin():
            yield Transaction(connection)

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Durable when it ends; undone where it raises.

        Raises:
            RecordExistsError: a value that must be unique is taken.
            StorageFullError, CatalogError
        """
        with (
            told(),
            self.engine.connect().execution_options(writes=True) as connection,
            connection.begin(),
        ):
            transaction = Transaction(connection)
            yield transaction
            for look in self._watches:
                look(transaction)
        for act in transaction.afterwards:
            act()

    def problems(self, *, thorough: bool = False) -> list[str]:
        """What is wrong with the file of an embedded catalog, in words; none where all is well.
        `thorough`: every index is compared with its table, which takes ten times as long. Whether
        a value is what was written, nobody can see here. PostgreSQL looks after its files itself.
        """
        if not self.embedded:
            return []
        with self.read() as tx:
            return problems_in(tx.connection.exec_driver_sql, thorough=thorough)

    def close(self) -> None:
        self.engine.dispose()


def problems_in(run: Callable[[str], Any], *, thorough: bool) -> list[str]:
    """The same of any SQLite database, given what runs a statement and gives rows."""
    look = "integrity_check" if thorough else "quick_check"
    said = [str(row[0]) for row in run(f"PRAGMA {look}({_MOST})").fetchall()]
    broken = [row[0] for row in run("PRAGMA foreign_key_check").fetchmany(_MOST)]
    found = [] if said == ["ok"] else said
    return found + [f"a row of {table} refers to nothing" for table in broken]


def _full(url: str) -> URL:
    if "://" not in url:
        url = f"sqlite:///{url}"
    parsed = make_url(url)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    return parsed


def _engine(url: URL, pool_size: int) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_size=pool_size, max_overflow=pool_size, pool_pre_ping=True)
    engine = create_engine(url, pool_size=pool_size, connect_args={"timeout": _WAIT})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin where we say, see below
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def told() -> Iterator[None]:
    """The library's errors in our words."""
    try:
        yield
    except IntegrityError as error:
        raise RecordExistsError(f"the catalog refuses: {_first_line(error)}") from error
    except OperationalError as error:
        if "disk is full" in str(error.orig):
            raise StorageFullError("the disk that holds the catalog is full") from error
        if "decode" in str(error.orig):  # it says the value, which may be nobody's business
            raise CatalogError("the catalog is damaged: a text in it is none") from error
        if any(sign in str(error.orig) for sign in _DAMAGE):
            raise CatalogError(f"the catalog cannot be used: {_first_line(error)}") from error
        raise CatalogUnreachableError(
            f"the catalog does not answer: {_first_line(error)}"
        ) from error
    except DatabaseError as error:
        raise CatalogError(f"the catalog cannot be used: {_first_line(error)}") from error
    except UnicodeDecodeError as error:  # of what SQLite would have said
        raise CatalogError("the catalog is damaged: a text in it is none") from error


def _first_line(error: DatabaseError) -> str:
    return str(error.orig).splitlines()[0]
