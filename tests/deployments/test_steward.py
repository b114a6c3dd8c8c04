from pathlib import Path

import pytest

from delivery.errors import DeliveryError
from deployments.steward import StewardProcess

HOME = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.processes


def a_steward(folder: Path) -> StewardProcess:
    (folder / "environments").mkdir(exist_ok=True)
    settings = {
        "GREENROOM_WORK_DIR": str(folder),
        "GREENROOM_DATABASE_URL": f"sqlite:///{folder / 'journal.db'}",
        "GREENROOM_ENVIRONMENTS_DIR": str(folder / "environments"),
        "GREENROOM_BLOCKS_FILE": str(folder / "blocks.toml"),
        "GREENROOM_UI_URL": "http://127.0.0.1:9",
    }
    return StewardProcess(folder / "state", settings=settings, directory=HOME)


def test_it_has_looked_into_the_journal_when_it_is_started_and_is_gone_when_it_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "blocks.toml").touch(mode=0o600)
    steward = a_steward(tmp_path)
    steward.start()
    assert steward.process.pid() is not None
    steward.stop()
    assert steward.process.pid() is None
    assert steward.process.last_lines().endswith("The steward has ended.")


def test_one_that_cannot_begin_tells_why(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="There is no blocks file"):
        a_steward(tmp_path).start()
