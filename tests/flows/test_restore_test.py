"""The newest backup is tried, what came of it stands in the journal, and the rule and housekeeping go by that."""

import os
from pathlib import Path

import pytest

from delivery.backup import Noted
from delivery.errors import DeliveryError
from flows.housekeeping import _backups_of
from flows.restore_test import try_backups
from tasks.backup_keeping import sweep_backups
from tests.flows.conftest import Stage
from tests.tasks.test_backup import NOTED, KeptTarget, pending


@pytest.fixture
def kept(stage: Stage) -> KeptTarget:
    target = KeptTarget(command=pending("0002"))
    stage.targets["production"] = target
    stage.house.blocks._blocks["docker-target", "production"] = target  # type: ignore[attr-defined]
    return target


def backups(stage: Stage) -> Path:
    return stage.house.settings.work_dir / "backups"


def test_without_a_backup_there_is_nothing_to_try(stage: Stage) -> None:
    assert try_backups(stage.house) == "There is no backup yet."


def test_the_newest_backup_is_tried_and_the_journal_knows_how_it_went(stage: Stage, kept: KeptTarget) -> None:
    for version in ("1.0.0", "1.1.0"):
        stage.bring(stage.published(version), "production")
    assert "production-2.dump brings back" in try_backups(stage.house)
    kept.restored = Noted(NOTED.revisions, {})
    with pytest.raises(DeliveryError, match="does not come back"):
        try_backups(stage.house)
    assert [(one.rollout, one.well) for one in stage.house.store.restore_tests("production")] == [
        ("production-2", False),
        ("production-2", True),
    ]


@pytest.mark.usefixtures("kept")
def test_the_last_that_came_back_is_never_deleted_and_old_unknown_files_are(stage: Stage) -> None:
    for version in ("1.0.0", "1.1.0", "1.2.0", "1.3.0"):
        stage.bring(stage.published(version), "production")
        if version == "1.0.0":
            try_backups(stage.house)
    (backups(stage) / "production/.production-9.dump.partial").write_bytes(b"PGDMP")
    for file in (backups(stage) / "production").iterdir():
        os.utime(file, (0, 0))
    verdicts = sweep_backups(stage.house.store, backups(stage), "production", keep=1, days=1, act=True)
    assert [(one.thing.rpartition("/")[2], one.goes) for one in verdicts] == [
        (".production-9.dump.partial", True),
        ("production-1.dump", False),
        ("production-2.dump", True),
        ("production-3.dump", True),
        ("production-4.dump", False),
    ]
    assert {file.name for file in (backups(stage) / "production").iterdir()} == {"production-1.dump", "production-4.dump"}
    assert [one.goes for one in _backups_of(stage.house, "production", act=False)] == [False, False]
