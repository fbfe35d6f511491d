"""The server that `make serve` starts loses no work to a busy database."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from prefect.server.database.configurations import AioSqliteConfiguration

from deployments import prefect_server

ROOT = Path(__file__).parents[2]


@pytest.fixture
def begin_as_writers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AioSqliteConfiguration, "begin_transaction", AioSqliteConfiguration.begin_transaction)
    prefect_server.begin_as_writers()


async def count_in_two_transactions(folder: Path) -> int:
    """Let two transactions read a number and write one more, at the same time; return the number in the end."""
    configuration = AioSqliteConfiguration(connection_url=f"sqlite+aiosqlite:///{folder / 'server.db'}", timeout=30)
    engine = await configuration.engine()
    both_have_read = asyncio.Event()

    async def count() -> None:
        session = await configuration.session(engine)
        async with session, configuration.begin_transaction(session):
            number = (await session.execute(sa.text("SELECT number FROM counts"))).scalar_one()
            with_other = asyncio.create_task(both_have_read.wait())
            if (await asyncio.wait([with_other], timeout=0.5))[0]:
                await asyncio.sleep(0.5)  # the other one writes first
            else:
                both_have_read.set()
            with_other.cancel()
            await session.execute(sa.text("UPDATE counts SET number = :number"), {"number": number + 1})

    try:
        session = await configuration.session(engine)
        async with session, configuration.begin_transaction(session):
            await session.execute(sa.text("CREATE TABLE counts (number INTEGER)"))
            await session.execute(sa.text("INSERT INTO counts VALUES (0)"))
        await asyncio.gather(count(), count())
        session = await configuration.session(engine)
        async with session:
            return int((await session.execute(sa.text("SELECT number FROM counts"))).scalar_one())
    finally:
        await engine.dispose()


@pytest.mark.usefixtures("begin_as_writers")
def test_transactions_that_read_and_then_write_wait_for_each_other(tmp_path: Path) -> None:
    """As Prefect ships it, one of the two ends with "database is locked" at once, and its event is lost."""
    assert asyncio.run(count_in_two_transactions(tmp_path)) == 2


def test_the_program_runs_the_commands_of_prefect() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "deployments" / "prefect_server.py"), "server", "start", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--host" in done.stdout
