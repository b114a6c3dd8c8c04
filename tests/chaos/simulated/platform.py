"""A platform in virtual time whose verbs consist of single effects, between which anything can happen.

It is built like the Docker target: routes are written (with the fencing token) and taken up by the traffic layer a little later, which
every verb that moves users waits to see; replicas are started and stopped one by one, and finish what they have begun before they go.
An effect and the look at its token are one act, as under the lock of Traefik's state file.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from delivery.environment import Capability, Standing
from delivery.errors import DeliveryError, StaleFence, TransientError
from delivery.health import HealthReport, ProbeResult
from delivery.ports import Target, Token
from delivery.release import Release
from tests.chaos.simulated.colour import Breakage, Colour, Replica
from tests.chaos.simulated.kernel import Kernel
from tests.chaos.simulated.users import Users
from tests.simulated_target import SimulatedTarget

CONFIRM_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 2.0)
REPLICAS = 2

Moment = Callable[[str, str], None]


class Platform(SimulatedTarget):
    """`moment` is called before and after each effect, `breaks` once for each call of a verb."""

    def __init__(self, kernel: Kernel, dice: random.Random) -> None:
        super().__init__(capabilities=frozenset(Capability))
        self.kernel = kernel
        self.dice = dice
        self.moment: Moment = lambda _what, _when: None
        self.breaks: Callable[[str], Breakage | None] = lambda _verb: None
        self.users = Users(kernel, self._serves, self._has_died, lambda: self.weights)
        self.written: dict[str, int] = {}
        self.fences: list[int] = []
        self.proven: set[str] = set()
        self.had_users: dict[str, int] = {}
        self.refuses: str | None = None  # the release that it does not promote
        self.deaf_until = 0.0
        self.unseen_until = 0.0

    def serve(self, release: Release) -> None:
        self.releases[release.id] = Colour(True, workers=True, checked=True, replicas=[Replica("up", 1) for _ in range(REPLICAS)])
        self.weights, self.written, self.live = {release.id: 100}, {release.id: 100}, release.id
        self.proven.add(release.id)
        self.users.expect_service = True

    # looking

    def observe(self) -> Standing:
        self._look("observe")
        return Standing(
            weights=dict(self._read_back()),
            running=frozenset(name for name, colour in self.releases.items() if colour.up),
            fence=self.fence,
            present=frozenset(name for name in self.releases if self._colour(name).is_there),
        )

    def check(self, release: Release, patterns: Sequence[str] = ()) -> HealthReport:  # noqa: ARG002  the protocol's
        self._look("check")
        colour = self._of(release)
        probes = tuple(
            ProbeResult(f"api-{number}", well=replica.state == "up", detail="" if replica.state == "up" else "it is not running.")
            for number, replica in enumerate(colour.replicas, start=1)
        )
        report = self.reports.get(release.id) or HealthReport(probes, cpu=0.2, memory=0.3)
        colour.checked = colour.up and report.well
        return report

    def collect_logs(self, release: Release, folder: Path) -> Sequence[Path]:  # noqa: ARG002  nobody reads the logs
        self._look("collect_logs")
        return ()

    # acting

    def launch(self, release: Release, *, variables: Mapping[str, str], token: Token) -> None:  # noqa: ARG002  the protocol's
        def up() -> None:
            colour = self._of(release)
            colour.replicas += [Replica() for _ in range(REPLICAS - len(colour.replicas))]
            for number, replica in enumerate(colour.replicas, start=1):
                if replica.state != "up":
                    self._effect(f"start api-{number} of {release.version.tag}", token, partial(self._start, colour, replica))
            colour.remains = False

        self._do("launch", release, token, up)

    def shift(self, release: Release, *, percent: int, rest: Release | None, token: Token) -> None:
        wanted = {release.id: percent, **({rest.id: 100 - percent} if rest else {})}

        def move() -> None:
            self._require_up(wanted)
            getting = [name for name, share in wanted.items() if share]
            for name in getting:
                if name != self.live:
                    self._workers(name, token, run=True)
            self._route(token, {} if rest is None and not percent else wanted, without=release.id if rest is None and not percent else None)
            for name in getting:
                self._workers(name, token, run=True)
            for name in list(self.releases):
                if not self.written.get(name, 0) and name != self.live:
                    self._workers(name, token, run=False)

        self._do(f"shift {percent}", release, token, move, verb="shift")

    def promote(self, release: Release, token: Token) -> None:
        def lead() -> None:
            if release.id == self.refuses:
                raise DeliveryError("The platform refuses the promotion.", next="ask it.")
            self._require_up({release.id: 100})
            self._workers(release.id, token, run=True)
            self._route(token, {release.id: 100}, live=release.id)

        self._do("promote", release, token, lead)

    def drain(self, release: Release, token: Token) -> None:
        def idle() -> None:
            self._refuse_share(release, "drained")
            self._workers(release.id, token, run=False)

        self._do("drain", release, token, idle)

    def retire(self, release: Release, *, keep_remains: bool, token: Token) -> None:
        def stop() -> None:
            self._refuse_share(release, "stopped")
            colour = self._of(release)
            for number, replica in enumerate(colour.replicas, start=1):
                if replica.state == "up":
                    self._effect(f"stop api-{number} of {release.version.tag}", token, partial(self._stop, release, colour, replica))
                    self.kernel.wait(self._grace(release))
            self._workers(release.id, token, run=False)
            self._route(token, {name: share for name, share in self.written.items() if name != release.id}, without=release.id)
            if not keep_remains:
                self._effect(f"remove {release.version.tag}", token, colour.replicas.clear)
            colour.remains = keep_remains
            colour.look()

        self._do("retire", release, token, stop)

    # what happens by itself

    def die(self, release_id: str, replicas: int) -> None:
        """That many replicas of a release end, whatever they were doing."""
        colour = self._colour(release_id)
        up = [replica for replica in colour.replicas if replica.state == "up"]
        cut = self.users.in_flight(release_id)
        for replica in up[:replicas]:
            replica.state = "dead"
        if up:
            colour.look()
            self.users.cut_off(cut * min(replicas, len(up)) / len(up), release_id)

    # how verbs are made

    def _do(self, told: str, release: Release, token: Token, act: Callable[[], None], *, verb: str | None = None) -> None:
        name, said = verb or told, f"{told} {release.version.tag}"
        me = self.kernel.current
        self.moment(said, "before")
        broken = self.breaks(name)
        if broken and broken.how == "before":
            raise broken.error
        self._claim(token)
        self.acts.append(said)
        me.mishap = broken.how if broken else ""
        try:
            act()
        except _HalfDone:
            assert broken is not None
            raise broken.error from None
        finally:
            me.mishap = ""
        if broken and broken.how in ("after", "half"):
            raise broken.error
        self.moment(said, "after")

    def _effect(self, told: str, token: Token, act: Callable[[], None]) -> None:
        """One thing that is done to the platform, by whoever holds the newest token."""
        me = self.kernel.current
        self.kernel.wait(self.dice.uniform(0.02, 0.4))
        self.moment(told, "before")
        self._claim(token)
        self.users.count()
        if me.mishap == "lost" and told.startswith("start"):
            return
        act()
        self.moment(told, "after")
        if me.mishap == "half":
            raise _HalfDone

    def _claim(self, token: Token) -> None:
        self._require(token)
        self.fences.append(token.fence)
        self.fence = token.fence

    def _require(self, token: Token) -> None:
        if token.fence < self.fence:
            raise StaleFence(f"Fence {token.fence} is older than {self.fence}.", next="stop.")

    def _look(self, verb: str) -> None:
        if self.kernel.now < self.unseen_until:
            raise TransientError("The platform does not answer.", next="try again.")
        if broken := self.breaks(verb):
            raise broken.error

    def _route(self, token: Token, shares: Mapping[str, int], *, live: str | None = None, without: str | None = None) -> None:
        """Writes who gets what, and returns when the traffic layer shows it."""
        me = self.kernel.current
        mine: dict[str, int] = {}

        def write() -> None:
            known = {name: 0 for name, colour in self.releases.items() if colour.up and name != without}
            for name, share in shares.items():
                if share > self.written.get(name, 0) and name not in self.proven and not self._colour(name).checked:
                    self.violations.append(f"I10: {name} got users before it was found well")
            self.written = {**known, **shares}
            mine.update(self.written)
            if live is not None:
                self.live = live
                self.proven.add(live)
                self.users.expect_service = True
            if without == self.live:
                self.live, self.users.expect_service = None, False
            if me.mishap != "lost":
                self.kernel.after(self.dice.uniform(0.02, 0.3), self._take_up)

        self._effect(f"write routes {_told(shares)}", token, write)
        for pause in CONFIRM_PAUSES:
            self.kernel.wait(pause)
            if self._read_back() == mine:
                return
        raise TransientError("The traffic layer does not show what was written.", next="try again.")

    def _take_up(self) -> None:
        """The traffic layer reads what is written, unless it is deaf just now."""
        if self.kernel.now < self.deaf_until:
            self.kernel.at(self.deaf_until, self._take_up)
            return
        self.users.count()
        self.weights = dict(self.written)
        for name, share in self.weights.items():
            self.had_users[name] = max(self.had_users.get(name, 0), share)
        total = sum(self.weights.values())
        if total != 100 and (total or self.live):
            self.violations.append(f"I2: the weights do not sum to 100: {self.weights}")

    def _read_back(self) -> Mapping[str, int]:
        """What the traffic layer really does."""
        return self.weights

    def _refuse_share(self, release: Release, what: str) -> None:
        if self._read_back().get(release.id, 0):
            raise DeliveryError(f"{release.id} has users and is not {what}.", next="give its users to another release first.")

    def _require_up(self, wanted: Mapping[str, int]) -> None:
        for name, share in wanted.items():
            if share and not self._colour(name).up:
                raise DeliveryError(f"{name} is not up and cannot get users.", next="launch it first.")

    def _workers(self, name: str, token: Token, *, run: bool) -> None:
        colour = self._colour(name)

        def change() -> None:
            colour.workers = run

        if colour.workers is not run:
            self._effect(f"{'start' if run else 'stop'} the workers of {name}", token, change)

    def _start(self, colour: Colour, replica: Replica) -> None:
        replica.state, replica.life = "up", replica.life + 1
        colour.checked = False
        colour.look()

    def _stop(self, release: Release, colour: Colour, replica: Replica) -> None:
        """SIGTERM: it takes nothing new, answers what it has, and goes."""
        up = sum(one.state in ("up", "stopping") for one in colour.replicas)
        share = 1 / max(1, up)
        replica.state = "stopping"
        colour.look()
        if self.weights.get(release.id, 0) and not colour.up:
            self.violations.append(f"I10: {release.id} was stopped while it had {self.weights[release.id]} % of the users")
        life = replica.life

        def gone() -> None:
            if replica.state == "stopping" and replica.life == life:
                self.users.cut_off(self.users.in_flight(release.id) * share, release.id)
                replica.state = "stopped"

        if grace := self._grace(release):
            self.kernel.after(grace, gone)
        else:
            gone()

    def _grace(self, release: Release) -> float:
        """How long a replica that was told to stop takes: until its last request is answered, at most its drain time."""
        longest = max(service.drain_seconds for service in release.services)
        return min(float(longest), self.users.seconds_until_answered(release.id))

    def _colour(self, name: str) -> Colour:
        found = self.releases.setdefault(name, Colour())
        assert isinstance(found, Colour)
        return found

    def _of(self, release: Release) -> Colour:
        return self._colour(release.id)

    def _serves(self, name: str) -> bool:
        return self._colour(name).up

    def _has_died(self, name: str) -> bool:
        return self._colour(name).died


class _HalfDone(Exception):  # noqa: N818  it is not an error, it becomes one
    pass


def _told(shares: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {share} %" for name, share in shares.items()) or "nobody"


_: type[Target] = Platform
