"""One installation for all scenarios: opened by the first, removed by the last."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from deployments.demo.installation import USUAL_PORTS
from deployments.demo.repository import ApplicationRepository
from deployments.processes import free_ports
from tests.blocks.fault_proxy import FaultProxy, fault_proxy
from tests.chaos.real.lane import Row
from tests.chaos.through_prefect.rest import disturbances
from tests.chaos.through_prefect.scenarios import BLUE, SCENARIOS, Pipeline, Scenario
from tests.system.claims import new_installation
from tests.system.premises import Premises, keep_logs

GROUP = "prefect"
CONTROL_SECONDS = 20.0


def scenarios(folder: Path) -> Sequence["Death"]:
    """Every scenario, in the order in which they have to run; whoever runs a part of them calls `close` on the last that ran."""
    house = House(folder)
    return [Death(house, told, endings, is_last=told is SCENARIOS[-1][0]) for told, endings in SCENARIOS]


class House:
    """The installation and its users; production begins and stays at BLUE."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pipeline: Pipeline | None = None
        self._close: list[Callable[[], object]] = []
        self.failed_per_request = 0.0

    def open(self) -> Pipeline:
        """The same each time."""
        if self._pipeline is None:
            try:
                self._pipeline = self._begin()
            except BaseException:
                self.close()
                raise
        return self._pipeline

    def keep_logs(self, scenario: str) -> None:
        """Of a scenario that is red, beside the installation that is about to go."""
        if self._pipeline is not None:
            keep_logs(self._pipeline.installation.folder, self._folder / "red" / scenario.replace(" ", "-"))

    def close(self) -> None:
        while self._close:
            self._close.pop()()
        self._pipeline = None

    def _begin(self) -> Pipeline:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "greenroom"
        ports = free_ports(USUAL_PORTS)
        proxied = fault_proxy(f"127.0.0.1:{ports['registry']}")
        proxy: FaultProxy = proxied.__enter__()
        self._close.append(lambda: proxied.__exit__(None, None, None))
        installation = new_installation(self._folder / f"installation-{time.time_ns()}", cache, proxy, ports)
        self._close.append(lambda: installation.stop(remove=True))
        repository = ApplicationRepository.create(installation.folder / "dealbrain")
        installation.start()
        premises = Premises(installation, repository, proxy)
        self._close.append(premises.close)
        premises.journal.migrate()
        pipeline = Pipeline(premises)
        premises.live(BLUE)
        premises.users["production"].start()
        pipeline.settle()
        self._measure_control(premises)
        return pipeline

    def _measure_control(self, premises: Premises) -> None:
        since = time.monotonic()
        time.sleep(CONTROL_SECONDS)
        users = premises.users["production"]
        self.failed_per_request = len(users.failures(since=since)) / max(1, len(users.got(since=since)))


class Death:
    """A scenario as the harness runs it."""

    group = GROUP

    def __init__(self, house: House, told: Scenario, endings: Sequence[object], *, is_last: bool) -> None:
        self.name = told.__name__.replace("_", " ")
        self._house = house
        self._tell = told
        self._endings = endings
        self._is_last = is_last

    def run(self) -> Row:
        row = Row(scenario=self.name, group=self.group)
        pipeline = self._house.open()
        users = pipeline.premises.users["production"]
        began = time.monotonic()
        try:
            came = self._tell(pipeline)
            row.ending, row.recovered = str(came.record.ending), came.seconds
            if came.record.ending not in self._endings:
                row.violations.append(f"I9: {came.record.id} ended as {came.record.ending}: {came.record.message}")
            found = disturbances(pipeline)
            row.violations += found
            row.orphans = sum(sentence.startswith("I5") for sentence in found)
        except Exception as broken:  # noqa: BLE001  the others are still to be told; this one is red
            row.violations.append(f"{type(broken).__name__}: {broken}")
        row.open_rollouts = len(pipeline.journal.rollouts(environment="production", open_only=True))
        row.requests, row.failed = len(users.got(since=began)), len(users.failures(since=began))
        row.control = round(self._house.failed_per_request * row.requests, 1)
        row.violations += [f"I1: {failure}" for failure in users.failures(since=began)[:5]]
        row.seconds = time.monotonic() - began
        self._leave(pipeline, row)
        return row

    def _leave(self, pipeline: Pipeline, row: Row) -> None:
        if not self._is_last and not row.violations:
            pipeline.settle()
        else:  # the next one begins on a new installation
            if row.violations:
                self._house.keep_logs(self.name)
            self._house.close()
