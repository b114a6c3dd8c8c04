"""All stories on two lanes, side by side; rows as they come, and what they amount to."""

import json
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.real import calm, faults, kills, mutants, rivals
from tests.chaos.real.lane import Lane, Row, Story

CONTROL_SECONDS = 10.0
# The six that tell most, for the short form.
TELLING = (
    "forward: killed after shift-50/write routing",
    "forward: killed after promote/journal Promoted",
    "back: killed after restore/write state",
    "frozen at shift-100/apply, recovered by another, wakes up",
    "two recoverers at once",
    "a second rollout on a busy environment",
)


def telling_stories() -> list[Story]:
    """The short form, without a look at what there is to be killed at."""
    known = [
        kills.killed("forward", "shift-50/write routing", "after"),
        kills.killed("forward", "promote/journal Promoted", "after"),
        kills.killed("back", "restore/write state", "after"),
        *rivals.stories(),
    ]
    return [story for name in TELLING for story in known if story.name == name]


def fixed_stories() -> list[Story]:
    """All that need no look at what there is to be killed at."""
    return [*calm.stories(), *rivals.stories(), *faults.stories(), *faults.apart(), *mutants.stories()]


@dataclass
class Progress:
    """Rows as they come. `say` gets a line for each."""

    say: Callable[[str], None]
    file: Path
    total: int = 0
    rows: list[tuple[Story, Row]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, story: Story, row: Row) -> None:
        with self.lock:
            self.rows.append((story, row))
            with self.file.open("a") as stream:
                stream.write(json.dumps(row.document()) + "\n")
            done = len(self.rows)
            left = (time.monotonic() - self.began) / done * (self.total - done)
            red = story.group != mutants.GROUP and row.violations
            sign = "RED " if red else "    "
            recovered = "" if row.recovered is None else f", recovered in {row.recovered:.1f} s"
            control = "" if row.apart is None else f" ({row.control:g} of the same fault without a rollout)"
            self.say(
                f"{sign}{done} of {self.total} ({left / 60:.0f} min left)  {row.scenario}: {row.ending}, "
                f"{row.failed} of {row.requests} requests failed{control}{recovered}, {row.seconds:.0f} s"
            )
            for sentence in row.violations:
                self.say(f"      {sentence}")


def run(
    folder: Path,
    *,
    choose: Callable[[Story], bool],
    fast: bool,
    say: Callable[[str], None],
    lanes: int = 2,
) -> list[tuple[Story, Row]]:
    """Opens the lanes, finds what there is to be killed at, and tells every chosen story once."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    progress = Progress(say, folder / "rows.jsonl")
    progress.file.write_text("")
    opened = [Lane(folder / f"lane-{number}", f"lane {number}") for number in range(1 if fast else lanes)]
    try:
        with ThreadPoolExecutor(len(opened), thread_name_prefix="lane") as pool:
            say(f"{len(opened)} stands with engine, Traefik, registry, PostgreSQL and users are being set up")
            list(pool.map(Lane.open, opened))
            list(pool.map(lambda lane: lane.measure("", lambda _: time.sleep(CONTROL_SECONDS), settle=0), opened))
            queue = deque(story for story in _stories(opened[0], fast=fast, say=say) if choose(story))
            progress.total, progress.began = len(queue), time.monotonic()
            list(pool.map(lambda lane: _tell(lane, queue, progress), opened))
    finally:
        for lane in opened:
            lane.close()
    return progress.rows


def _stories(lane: Lane, *, fast: bool, say: Callable[[str], None]) -> Sequence[Story]:
    if fast:
        return telling_stories()
    found = kills.explore(lane)
    told = kills.stories(found)
    say(f"{len(told)} points to be killed at: {', '.join(f'{len(names)} effects {path}' for path, names in vars(found).items())}")
    lane.forget_the_past()
    return [*calm.stories(), *told, *rivals.stories(), *faults.stories(), *faults.apart(), *mutants.stories()]


def _tell(lane: Lane, queue: deque[Story], progress: Progress) -> None:
    controls = faults.controls()
    while True:
        try:
            story = queue.popleft()
        except IndexError:
            return
        try:
            if story.apart and story.apart not in lane.control:
                lane.measure(story.apart, controls[story.apart])
                lane.anew()
            row = lane.tell(story)
        except Exception as error:  # noqa: BLE001  the other stories are still to be told; this one is red
            row = Row(story.name, story.group, apart=story.apart, violations=[f"the stand broke: {type(error).__name__}: {error}"])
        progress.add(story, row)


def table(rows: Sequence[Row]) -> str:
    """Markdown: one line per scenario."""
    lines = [
        "| scenario | group | ending | requests | failed | failed in the control | seconds to recover |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        recovered = "" if row.recovered is None else f"{row.recovered:.1f}"
        lines.append(f"| {row.scenario} | {row.group} | {row.ending} | {row.requests} | {row.failed} | {row.control:g} | {recovered} |")
    return "\n".join(lines) + "\n"
