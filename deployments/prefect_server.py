"""Start a Prefect server whose transactions on SQLite wait for each other: `serve.py` starts it.

    python deployments/prefect_server.py server start --host 127.0.0.1

SQLite has one writer at a time. Prefect begins its transactions as readers. When a transaction has read, and another one
writes before it does, SQLite refuses its own write at once ("database is locked"), whatever the time-out. Prefect's
server repeats the work on an event four times within a second; then it moves the event to a folder of dead letters, and the
automation or deployment that follows the event never starts. A transaction that begins as a writer waits for its turn
instead, up to PREFECT_SERVER_DATABASE_TIMEOUT. PostgreSQL is not affected.
"""

from contextlib import AbstractAsyncContextManager

from prefect.server.database.configurations import AioSqliteConfiguration
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

__all__ = ["begin_as_writers", "main"]

_begin = AioSqliteConfiguration.begin_transaction


def _begin_as_writer(
    configuration: AioSqliteConfiguration,
    session: AsyncSession,
    with_for_update: bool = False,  # noqa: ARG001  (Prefect's signature)
) -> AbstractAsyncContextManager[AsyncSessionTransaction]:
    return _begin(configuration, session, with_for_update=True)


def begin_as_writers() -> None:
    """Let each transaction of this process on SQLite take the write lock when it begins."""
    AioSqliteConfiguration.begin_transaction = _begin_as_writer  # type: ignore[method-assign, assignment]


def main() -> None:
    """Run a `prefect` command in this process."""
    from prefect.cli import app

    begin_as_writers()
    app()


if __name__ == "__main__":
    main()
