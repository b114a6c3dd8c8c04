"""`greenroom steward`: the resident process, with its signals and its log."""

import logging
import os
import signal
import sys
import threading
from types import FrameType

from blocks.settings import Settings, settings
from delivery.errors import InvalidSettings
from flows.steward import Steward


def look_after_everything(*, once: bool) -> bool:
    """Stays until SIGTERM or Ctrl-C; `once` does one round. False when something could not be done in that round."""
    current = settings()
    _require_blocks(current)
    _set_up(current)
    stop = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    steward = Steward(current, stop=stop)
    if once:
        return steward.once()
    steward.run()
    return True


def _require_blocks(current: Settings) -> None:
    """What is wrong in the file is told when it is read; that there is none is told at once."""
    if not current.local_blocks_file.exists():
        raise InvalidSettings(
            f"There is no blocks file {current.local_blocks_file}: a steward could look and never act.",
            next="write it (docs/operating.md shows one), or set GREENROOM_BLOCKS_FILE.",
        )


def _set_up(current: Settings) -> None:
    """One line per thing done, on standard output. Prefect is told, before it is imported, that there is no run to log into."""
    os.environ["PREFECT_LOGGING_TO_API_ENABLED"] = "false"
    os.environ["PREFECT_LOGGING_EXTRA_LOGGERS"] = ""
    os.environ.setdefault("PREFECT_API_URL", f"{current.ui_url.rstrip('/')}/api")
    shown = logging.StreamHandler(sys.stdout)
    shown.setFormatter(logging.Formatter("%(asctime)s  %(levelname)-7s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
    ours = logging.getLogger("greenroom")
    ours.setLevel(logging.INFO)
    ours.addHandler(shown)
    ours.propagate = False
    logging.getLogger("greenroom.journal").setLevel(logging.ERROR)  # each try on a database that is away; we say so once
