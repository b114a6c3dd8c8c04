"""Shown first, deleted on request; what cannot be swept keeps nothing else from being swept."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from delivery.errors import DeliveryError
from delivery.retention import Manifest
from flows.housekeeping import rows, sentence, sweep
from tests.flows.conftest import Stage


class Shelf:
    """A registry that holds one image of somebody else's, or refuses to be read."""

    def __init__(self) -> None:
        self.read: Callable[[], Sequence[Manifest]] = lambda: (Manifest("sha256:" + "1" * 64, frozenset({"v99"})),)

    def stored(self, _repository: str) -> Sequence[Manifest]:
        return self.read()


@pytest.fixture
def shelf(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    shelf = Shelf()
    stage.published("1.0.0")
    monkeypatch.setattr(type(stage.house), "registry", lambda _: shelf)
    return shelf


@pytest.fixture
def old_log(stage: Stage) -> Path:
    log = stage.house.settings.work_dir / "logs" / "abc"
    log.mkdir(parents=True)
    os.utime(log, (0, 0))
    return log


@pytest.mark.usefixtures("shelf")
def test_what_would_go_is_shown_with_its_reason_and_stays(stage: Stage, old_log: Path) -> None:
    verdicts, failures = sweep(stage.house, act=False)
    assert failures == ()
    assert [(row["what"], row["fate"]) for row in rows(verdicts)] == [
        ("logs/abc", "goes"),
        ("image dealbrain-api v99", "stays"),
        ("image dealbrain-worker v99", "stays"),
    ]
    assert sentence(verdicts, act=False) == "1 of 3 things would be deleted."
    assert old_log.exists()


def test_a_registry_that_cannot_be_read_is_told_and_the_rest_is_swept(stage: Stage, shelf: Shelf, old_log: Path) -> None:
    def silent() -> Sequence[Manifest]:
        raise DeliveryError("The registry is silent.", next="start it.")

    shelf.read = silent
    verdicts, failures = sweep(stage.house, act=True)
    assert [str(one) for one in failures] == ["The registry is silent. Next: start it."]
    assert sentence(verdicts, act=True) == "1 of 1 things are deleted."
    assert not old_log.exists()
