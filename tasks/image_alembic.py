"""How Alembic inside an image is asked: its command, and what it answered.

Greenroom's own modules go in as text, since nothing of it is installed there; what is asked goes beside them as JSON, never a secret.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from delivery.application import MigrationSettings
from delivery.errors import DeliveryError

MARK = "greenroom-answer: "
# What starts the image and what reads the answer back have their part of a step's time.
MARGIN = timedelta(seconds=15)
_MODULES = ("watcher", "alembic_guard", "image_watch", "alembic_inside", "alembic_back")
# A name of its own, since an application may well have a package `tasks`.
_PACKAGE = "greenroom_inside"
_LOADER = f"""\
import json, sys, types
told = json.loads(sys.argv[1])
sys.path.insert(0, "")
package = sys.modules["{_PACKAGE}"] = types.ModuleType("{_PACKAGE}")
package.__path__ = []
for name, text in told["modules"]:
    module = types.ModuleType("{_PACKAGE}." + name)
    sys.modules[module.__name__] = module
    setattr(package, name, module)
    exec(compile(text, name + ".py", "exec"), module.__dict__)
sys.modules["{_PACKAGE}.alembic_inside"].main(told["asked"])
"""


@dataclass(frozen=True)
class MigrationLimits:
    """`lock_timeout` is the longest that the application waits behind a migration that waits; it drains in the `pause` between tries.
    100 ms kept the worst stall of an application below 300 ms, 500 ms did not.
    """

    lock_timeout: timedelta = timedelta(milliseconds=100)
    pause: timedelta = timedelta(milliseconds=400)
    statement_timeout: timedelta = timedelta(seconds=30)
    deadline: timedelta = timedelta(minutes=10)

    def within(self, timeout: timedelta) -> "MigrationLimits":
        """The same, with a deadline that leaves time to tell about it."""
        left = max(timeout - MARGIN, timeout / 2)
        return MigrationLimits(self.lock_timeout, self.pause, self.statement_timeout, min(self.deadline, left))

    def seconds(self) -> dict[str, float]:
        return {name: getattr(self, name).total_seconds() for name in ("lock_timeout", "statement_timeout", "pause", "deadline")}


def read_command(settings: MigrationSettings) -> tuple[str, ...]:
    """Reads all revisions and renders the SQL of each; needs no database."""
    return _command(settings, act="read")


def pending_command(settings: MigrationSettings, *, reviewed: Mapping[str, str] | None, limits: MigrationLimits) -> tuple[str, ...]:
    """What an upgrade would apply, and whether it may; changes nothing."""
    return _command(settings, act="pending", reviewed=dict(reviewed) if reviewed is not None else None, limits=limits.seconds())


def upgrade_command(
    settings: MigrationSettings, *, reviewed: Mapping[str, str] | None, limits: MigrationLimits, watch: bool = False
) -> tuple[str, ...]:
    """Brings the database to the head. `reviewed` maps the revisions that may run to the hashes of their files; None: all may."""
    return _command(
        settings, act="upgrade", reviewed=dict(reviewed) if reviewed is not None else None, limits=limits.seconds(), watch=watch
    )


def standing_command(settings: MigrationSettings, *, losses: Sequence[tuple[str, str]], limits: MigrationLimits) -> tuple[str, ...]:
    """Where the database stands, which of `losses` (table and column, or a table and nothing) hold data, and whether somebody migrates."""
    return _command(settings, act="standing", losses=[list(one) for one in losses], limits=limits.seconds())


def downgrade_command(
    settings: MigrationSettings, *, to: str, reviewed: Mapping[str, str] | None, limits: MigrationLimits, watch: bool = False
) -> tuple[str, ...]:
    """Takes back, one by one, what the database has beyond `to`."""
    return _command(
        settings,
        act="downgrade",
        to=to,
        reviewed=dict(reviewed) if reviewed is not None else None,
        limits=limits.seconds(),
        watch=watch,
    )


@dataclass(frozen=True)
class Answer:
    """What Alembic told; `refusal` is what it refused or where it failed, `way_out` what a person does about it."""

    told: Mapping[str, Any]
    refusal: str = ""
    way_out: str = ""

    def names(self, key: str) -> tuple[str, ...]:
        return tuple(str(name) for name in self.told.get(key) or ())


def answer_in(output: Sequence[str]) -> Answer | None:
    """The answer among the lines of a command's output; None when it ended without one."""
    for line in reversed(output):
        if line.startswith(MARK):
            try:
                told = json.loads(line.removeprefix(MARK))
                refused = told.get("refused") or {}
                return Answer(told, str(refused.get("what", "")), str(refused.get("next", "")))
            except (ValueError, AttributeError):
                return None
    return None


def words_of(output: Sequence[str]) -> list[str]:
    """What it printed beside its answer."""
    return [line for line in output if not line.startswith(MARK)]


def no_answer(output: Sequence[str], *, doing: str) -> DeliveryError:
    """For a command that ended without an answer: no Python, no Alembic, or killed."""
    last = next((line.strip() for line in reversed(output) if line.strip()), "it said nothing")
    return DeliveryError(
        f"{doing} ended without an answer: {last[:300]}",
        next="look whether `python` of [migrations] in greenroom.toml is the image's Python that has Alembic.",
    )


def _command(settings: MigrationSettings, **asked: Any) -> tuple[str, ...]:
    told = {"modules": _modules(), "asked": {"config": settings.config, "mark": MARK, **asked}}
    return (*settings.python, "-c", _LOADER, json.dumps(told, sort_keys=True))


@cache
def _modules() -> list[tuple[str, str]]:
    """In the order in which they import one another."""
    folder = Path(__file__).parent
    return [(name, (folder / f"{name}.py").read_text(encoding="utf-8").replace("from tasks.", f"from {_PACKAGE}.")) for name in _MODULES]
