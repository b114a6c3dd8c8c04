"""A rollout keeps its database before it migrates, and the flow brings it back: a real PostgreSQL, its programs, and a Prefect server."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_API_URL, temporary_settings

from delivery.backup import Noted
from delivery.environment import Capability
from delivery.ports import BackingUp, Token
from delivery.release import Release
from flows.assembly import blocks_from
from flows.restore_test import restore_test
from tests.blocks.test_docker_backups import RELEASE, Server, server
from tests.flows.conftest import Stage
from tests.prefect_stage import prefect_server
from tests.simulated_target import SimulatedTarget
from tests.tasks.test_backup import pending

pytestmark = [pytest.mark.docker, pytest.mark.prefect]
__all__ = ["server"]  # a fixture of the neighbour's


@dataclass
class WithDatabase(SimulatedTarget):
    """Its platform is simulated; its database, its dumps and what they bring back are real."""

    capabilities: frozenset[Capability] = frozenset(Capability)
    database: Server | None = None
    migrate: Callable[[], None] = lambda: None

    def dump_database(
        self, release: Release, take: Callable[[bytes], object], *, variables: Mapping[str, str], timeout: timedelta, token: Token
    ) -> Noted:
        assert self.database is not None
        noted: list[Noted] = []
        self._do("dump", release, token, lambda: noted.append(self._backups.dump(RELEASE, take, variables=variables, timeout=timeout)))
        # What comes after the backup is not in it.
        self.migrate()
        return noted[0]

    def try_dump(self, release: Release, pieces: Iterable[bytes], size: int, *, variables: Mapping[str, str], timeout: timedelta) -> Noted:
        del release
        return self._backups.restore(RELEASE, pieces, size, variables=variables, timeout=timeout)

    def copies_left(self, release: Release, *, variables: Mapping[str, str]) -> tuple[str, ...]:
        del release
        return self._backups.left(RELEASE, variables=variables)

    def drop_left(self, release: Release, copy: str, *, variables: Mapping[str, str]) -> None:
        del release
        self._backups.drop(RELEASE, copy, variables=variables)

    @property
    def _backups(self) -> Any:
        assert self.database is not None
        return self.database.backups


_: type[BackingUp] = WithDatabase


@pytest.fixture
def dump(stage: Stage, server: Server) -> Path:
    """The backup that a rollout to production took before its migration, which changed the database afterwards."""
    target = WithDatabase(command=pending("0003"), database=server)
    target.migrate = lambda: server.run("UPDATE alembic_version SET version_num = '0003'", 'DELETE FROM shop."List ings" WHERE id < 100')
    stage.targets["production"] = target
    stage.house.blocks._blocks["docker-target", "production"] = target  # type: ignore[attr-defined]
    stage.bring(stage.on_staging("1.0.0"), "production")
    [file] = (stage.house.settings.work_dir / "backups" / "production").glob("*.dump")
    return file


@pytest.fixture
def client(stage: Stage) -> Iterator[SyncPrefectClient]:
    with (
        temporary_settings({PREFECT_API_URL: prefect_server().api_url}),
        get_client(sync_client=True) as client,
        blocks_from(stage.house.blocks),
    ):
        yield client


def test_what_was_kept_comes_back_as_it_was_and_a_damaged_file_fails_the_run_by_name(
    stage: Stage, server: Server, dump: Path, client: SyncPrefectClient
) -> None:
    def tried() -> tuple[str, str]:
        run = client.create_flow_run(restore_test, parameters={"environment": "production"})  # type: ignore[arg-type]
        state: Any = run_flow(restore_test, flow_run=run, return_type="state", parameters=run.parameters)  # type: ignore[arg-type]
        return state.type.value, state.message

    assert tried() == ("COMPLETED", "Production: production/production-1.dump brings back 2 tables with 20,001 rows at 0002.")
    whole = dump.read_bytes()
    dump.write_bytes(whole[:-2000])
    kind, message = tried()
    assert kind == "FAILED"
    assert "Production's newest backup does not come back: production/production-1.dump is not what was written" in message
    assert [one.well for one in stage.house.store.restore_tests("production")] == [False, True]
    assert server.databases() == set()
    assert server.containers() == []
