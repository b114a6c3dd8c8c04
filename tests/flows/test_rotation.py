"""A rotation as a flow sees it: where it stands, and whom it asks for the rollout. `test_docker_rotation` has a real database."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from blocks.secrets import EnvironmentSecrets
from delivery.errors import InvalidSettings
from delivery.rotation import RotationStep
from flows import rotation
from flows.promote import ask
from flows.rotation import look, roll_out
from tasks.lease import LeaseKeeper
from tests.flows.conftest import Stage

NAME = "TOKEN"


@pytest.fixture
def rotating(stage: Stage) -> Callable[..., Stage]:
    """Production runs 1.0.0; its secret has these versions, and its file names one."""

    def rotating(*there: int, named: int) -> Stage:
        values = {f"{NAME}@{number}": f"word-{number}" for number in there}
        stage.production.secrets = EnvironmentSecrets(values=values)  # type: ignore[attr-defined, arg-type]
        file = stage.environments / "production.toml"
        before, _, _ = file.read_text().partition("[secrets.")
        file.write_text(f'{before}[secrets.{NAME}]\nowner = "Bea"\nversion = {named}\ncreated = "{stage.house.store.now().date()}"\n')
        return stage

    rotating(1, named=1)
    stage.bring(stage.on_staging("1.0.0"), "production")
    return rotating


def step(stage: Stage) -> RotationStep | None:
    found = look(stage.house, "production", NAME).waits_for
    return found.step if found else None


def test_a_rotation_goes_on_from_how_things_stand(rotating: Callable[..., Stage]) -> None:
    assert step(rotating(1, named=1)) is None
    assert step(rotating(1, 2, named=1)) is RotationStep.NAME
    stage = rotating(1, 2, named=2)
    assert step(stage) is RotationStep.ROLL_OUT
    live = stage.house.store.live("production")
    assert live is not None
    stage.bring(live.with_settings(2), "production", "config")
    found = look(stage.house, "production", NAME).waits_for
    assert found is not None
    assert found.step is RotationStep.RELEASE
    assert found.what.startswith(f"still running with an older version: {live.id} until ")
    with LeaseKeeper(stage.house.store, "production", holder="a test", purpose="its end", ttl=timedelta(minutes=1)) as keeper:
        stage.production.retire(live, keep_remains=False, token=keeper.token("housekeeping"))
    assert step(stage) is RotationStep.FORGET
    assert step(rotating(2, named=2)) is None


def test_the_rollout_is_asked_for_once(rotating: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch) -> None:
    stage = rotating(1, 2, named=2)
    live = stage.house.store.live("production")
    assert live is not None
    started: list[tuple[object, ...]] = []
    monkeypatch.setattr(rotation, "start_promotion", lambda *of, key: (started.append((*of, key)), "7c9e6679")[1])
    told = roll_out(stage.house, look(stage.house, "production", NAME), key="run-1")
    assert told == f"The rollout of version 2 is asked for: {stage.house.run_link('7c9e6679')}"
    assert started == [(live.id, "production", "config", "rotate-production-TOKEN-2-run-1")]
    ask(stage.house, live.id, "production", "config", key="5a1b")
    told = roll_out(stage.house, look(stage.house, "production", NAME), key="run-2")
    assert told == f"Request 1 asks for it already: {stage.house.run_link('5a1b')}"
    assert len(started) == 1


def test_a_secret_that_is_not_there_is_refused_naming_those_that_are(rotating: Callable[..., Stage]) -> None:
    with pytest.raises(InvalidSettings, match="Production has no secret 'PASSWORD', expected one of: TOKEN"):
        look(rotating(1, named=1).house, "production", "PASSWORD")
