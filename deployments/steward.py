"""The resident steward of a local installation, as a process that is started once and ended exactly."""

import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from blocks.settings import Settings
from deployments.processes import ManagedProcess
from flows.heartbeat import last_beat


class StewardProcess:
    """`greenroom steward` with an installation's `settings`, its log below `state`. It starts in `directory`."""

    def __init__(self, state: Path, *, settings: Mapping[str, str], directory: Path) -> None:
        # Of the settings those that its sign of life depends on.
        self._looked_at = Settings(
            work_dir=Path(settings["GREENROOM_WORK_DIR"]), database_url=SecretStr(settings["GREENROOM_DATABASE_URL"])
        )
        self._process = ManagedProcess(
            name="steward",
            argv=[sys.executable, "-m", "cli.main", "steward"],
            state=state,
            settings=settings,
            directory=directory,
            patience_seconds=60.0,  # it ends after the act that is under way
        )

    @property
    def process(self) -> ManagedProcess:
        return self._process

    def start(self) -> None:
        """Start it and wait until it has looked into the journal. Raises `DeliveryError` with the end of its log when it does not."""
        self._process.start(self._looks, seconds=60)

    def _looks(self) -> bool:
        newest = last_beat(self._looked_at)
        return newest is not None and newest.is_fresh and newest.who.endswith(f":{self._process.pid()}")

    def stop(self) -> None:
        self._process.stop()
