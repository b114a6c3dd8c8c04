"""What happens, while it happens: one line per step, and in a terminal the present step with its seconds."""

import sys
import time
from collections.abc import Sequence
from datetime import datetime

from delivery.errors import DeliveryError
from delivery.journal import Closed, Entry, Finished, Opened, Promoted, Started, TurnedBack
from delivery.ports import JournalStore
from deployments.api import FINAL, FlowRun, PrefectApi

LOOK_SECONDS = 0.5
RUN_LOOK_SECONDS = 1.5
MARKS = {"COMPLETED": "done", "FAILED": "failed", "CRASHED": "crashed", "CANCELLED": "cancelled"}


class StatusLine:
    """The last line of a terminal, written over again and again; nothing where the output is a file."""

    def __init__(self) -> None:
        self._shows = sys.stdout.isatty()

    def show(self, text: str) -> None:
        if self._shows:
            print(f"\r\033[K{text}", end="", flush=True)

    def print(self, text: str) -> None:
        """A line that stays."""
        self.show("")
        print(text, flush=True)


def lines_of(entries: Sequence[Entry]) -> list[str]:
    """One line per thing that has happened in a rollout."""
    began: dict[str, datetime] = {}
    lines = []
    for entry in entries:
        at = f"{entry.at.astimezone():%H:%M:%S}"
        match entry.event:
            case Opened(plan=plan, by=by):
                lines.append(f"{at}  {plan.sentence()}, asked for by {by}")
            case Started(step=step):
                began[step] = entry.at
            case Finished(step=step, evidence=evidence):
                seconds = (entry.at - began.get(step, entry.at)).total_seconds()
                lines.append(f"{at}  {'ok  ' if evidence.well else 'SICK'}  {step:<12} {seconds:6.1f} s  {evidence.summary}")
            case TurnedBack(reason=reason):
                lines.append(f"{at}  turned back: {reason}")
            case Promoted(release=release):
                lines.append(f"{at}  {release} is the live release")
            case Closed(ending=ending, message=message):
                lines.append(f"{at}  {ending}: {message}")
    return lines


def follow_rollout(store: JournalStore, rollout: str) -> None:
    """Prints the rollout's lines as its journal grows, until it is closed."""
    status, printed = StatusLine(), 0
    while True:
        entries = store.entries(rollout)
        lines = lines_of(entries)
        for line in lines[printed:]:
            status.print(line)
        printed = len(lines)
        last = entries[-1]
        if isinstance(last.event, Closed):
            return
        if isinstance(last.event, Started):
            status.show(f"          {last.event.step} for {(store.now() - last.at).total_seconds():.0f} s")
        time.sleep(LOOK_SECONDS)


def follow_run(api: PrefectApi, run_id: str) -> FlowRun:
    """Prints a run's stages and steps until it ends or waits for somebody; raises `DeliveryError` with its message when it failed."""
    status, told, began = StatusLine(), set[str](), time.monotonic()
    while True:
        run = api.run(run_id)
        stages = api.stages(run_id)
        for stage in stages:
            if stage.state in FINAL and stage.id not in told:
                told.add(stage.id)
                message = f"  {stage.message}" if stage.state != "COMPLETED" else ""
                status.print(f"{MARKS[stage.state]:<9} {stage.name:<24} {stage.seconds:6.1f} s{message}")
        if run.state == "COMPLETED":
            status.print(f"{run.name}: {run.message or run.state_name}")
            return run
        if run.has_ended:
            status.show("")
            raise DeliveryError(f"{run.name} ended as {run.state_name}. {run.message}".strip(), next=f"look at it: {api.link(run_id)}")
        if run.waits_for_a_person:
            status.print(f"{run.name} waits for a person: `greenroom status` shows the request, or {api.link(run_id)}")
            return run
        running = ", ".join(stage.name for stage in stages if stage.state == "RUNNING") or run.state_name
        status.show(f"{running} for {time.monotonic() - began:.0f} s")
        time.sleep(RUN_LOOK_SECONDS)
