"""What a seed means: a story, a traffic plan, who looks after what was abandoned, and up to three faults."""

import random
from dataclasses import dataclass
from enum import StrEnum

VERBS = ("prepare", "run_once", "launch", "check", "shift", "promote", "drain", "retire", "observe", "collect_logs")
LONGER_THAN_ANY_DEADLINE = 100  # tries; of what only tidies up, since that is tried again by housekeeping
WALKER, FIRST_STEWARD, SECOND_STEWARD, DUPLICATE, INTRUDER = range(5)
_WHO = {WALKER: "the walker", FIRST_STEWARD: "the first steward", SECOND_STEWARD: "the second steward"}


class Story(StrEnum):
    GOOD = "a good release"
    BREACH = "a release whose error rate breaks its limit"
    MIGRATION = "a migration that fails"
    SICK = "a release that never gets well"
    REFUSED = "a promotion that the platform refuses"
    ROLLBACK = "a rollback to an earlier release"


@dataclass(frozen=True)
class Fault:
    @property
    def may_need_a_person(self) -> bool:
        """Whether it can last longer than any deadline."""
        return False


@dataclass(frozen=True)
class Kill(Fault):
    """SIGKILL at the n-th moment in which a process touches the journal or the platform: before it, or after it and before it is told."""

    process: int
    moment: int

    def __str__(self) -> str:
        return f"{_WHO[self.process]} is killed at its moment {self.moment}"


@dataclass(frozen=True)
class KillLater(Fault):
    process: int
    second: float

    def __str__(self) -> str:
        return f"{_WHO[self.process]} is killed at {self.second:.1f} s"


@dataclass(frozen=True)
class Freeze(Fault):
    """SIGSTOP, and SIGCONT later. With `clock_stands` its own clock has not moved meanwhile, as in a suspended virtual machine."""

    process: int
    moment: int
    seconds: float
    clock_stands: bool

    def __str__(self) -> str:
        clock = ", its clock stands still" if self.clock_stands else ""
        return f"{_WHO[self.process]} is frozen for {self.seconds:.1f} s at its moment {self.moment}{clock}"


@dataclass(frozen=True)
class FreezeLater(Fault):
    """As `Freeze`, wherever the process is then: mostly while it watches."""

    process: int
    second: float
    seconds: float
    clock_stands: bool

    def __str__(self) -> str:
        clock = ", its clock stands still" if self.clock_stands else ""
        return f"{_WHO[self.process]} is frozen for {self.seconds:.1f} s at {self.second:.1f} s{clock}"


@dataclass(frozen=True)
class Hangs(Fault):
    """What a process has asked for takes its time; the process itself is well."""

    process: int
    moment: int
    seconds: float

    def __str__(self) -> str:
        return f"{_WHO[self.process]} waits {self.seconds:.0f} s for an answer at its moment {self.moment}"


@dataclass(frozen=True)
class Fails(Fault):
    """The verb's calls from number `call` on go wrong, `times` in a row: before, half way, after the effect, or it is lost silently."""

    verb: str
    call: int
    times: int | None
    how: str

    @property
    def may_need_a_person(self) -> bool:
        return self.times is None

    def __str__(self) -> str:
        times = "for good" if self.times is None else f"{self.times} times"
        return f"{self.verb} goes wrong from call {self.call} on, {times} ({self.how})"


@dataclass(frozen=True)
class Deaf(Fault):
    """The traffic layer serves on and does not read what is written."""

    second: float
    seconds: float

    def __str__(self) -> str:
        return f"the traffic layer is deaf from {self.second:.1f} s for {self.seconds:.1f} s"


@dataclass(frozen=True)
class Dies(Fault):
    colour: str
    replicas: int
    second: float

    def __str__(self) -> str:
        return f"{self.replicas} replica(s) of {self.colour} die at {self.second:.1f} s"


@dataclass(frozen=True)
class Unseen(Fault):
    second: float
    seconds: float

    def __str__(self) -> str:
        return f"the platform cannot be looked at from {self.second:.1f} s for {self.seconds:.1f} s"


@dataclass(frozen=True)
class Silent(Fault):
    second: float
    seconds: float

    def __str__(self) -> str:
        return f"the metrics are silent from {self.second:.1f} s for {self.seconds:.1f} s"


@dataclass(frozen=True)
class Away(Fault):
    second: float
    seconds: float
    commits: bool

    def __str__(self) -> str:
        lost = ", the answer to the last commit is lost" if self.commits else ""
        return f"the journal's database is away from {self.second:.1f} s for {self.seconds:.1f} s{lost}"


@dataclass(frozen=True)
class Jump(Fault):
    process: int
    second: float
    seconds: float

    def __str__(self) -> str:
        return f"the clock of {_WHO[self.process]} jumps by {self.seconds:.0f} s at {self.second:.1f} s"


@dataclass(frozen=True)
class Cancel(Fault):
    second: float

    def __str__(self) -> str:
        return f"the run is cancelled at {self.second:.1f} s"


@dataclass(frozen=True)
class Duplicate(Fault):
    """The same request is carried out a second time: a late automation, a run that the server started again."""

    second: float

    def __str__(self) -> str:
        return f"a second run of the same request begins at {self.second:.1f} s"


@dataclass(frozen=True)
class Intruder(Fault):
    second: float

    def __str__(self) -> str:
        return f"another release wants in at {self.second:.1f} s"


@dataclass(frozen=True)
class Steward:
    """Looks after abandoned rollouts every `period` seconds, first at `first`."""

    first: float
    period: float


@dataclass(frozen=True)
class Schedule:
    seed: int
    story: Story
    first_release: bool
    was_warm: bool  # of a rollback: the release that is gone back to still runs
    is_hurried: bool  # a cancelled walker ends once its users are back, as under Prefect, and leaves the rest to others
    steps: tuple[int, ...]
    watch_seconds: float
    breach_at: int
    stewards: tuple[Steward, ...]
    faults: tuple[Fault, ...]

    @property
    def may_need_a_person(self) -> bool:
        return any(fault.may_need_a_person for fault in self.faults)

    def sentences(self) -> tuple[str, ...]:
        first = ", the environment's first" if self.first_release else ""
        steps = ", ".join(f"{share} %" for share in self.steps)
        eyes = " and ".join(f"every {steward.period:.0f} s" for steward in self.stewards)
        return (f"{self.story}{first}, by {steps}; abandoned rollouts are looked for {eyes}", *(f"fault: {fault}" for fault in self.faults))


def schedule_of(seed: int) -> Schedule:
    """The same seed, the same schedule."""
    dice = random.Random(f"schedule {seed}")  # noqa: S311  chance, not secrecy
    story = dice.choices(tuple(Story), weights=(6, 4, 1, 1, 2, 2))[0]
    is_first = story not in (Story.BREACH, Story.ROLLBACK) and dice.random() < 0.15
    lower = sorted(dice.sample(range(1, 100), dice.choice((0, 1, 1, 2, 3))))
    steps = (*lower, 100)
    watch = dice.choice((20.0, 30.0))
    length = 8.0 if is_first or story is Story.ROLLBACK else 10.0 + len(steps) * (watch + 2.0)
    stewards = tuple(Steward(dice.uniform(0, 30), dice.choice((5.0, 10.0, 20.0, 60.0))) for _ in range(dice.choice((1, 1, 2))))
    faults = tuple(_fault(dice, length, len(steps), len(stewards)) for _ in range(dice.choice((0, 1, 1, 2, 2, 2, 3, 3, 3))))
    return Schedule(
        seed=seed,
        story=story,
        first_release=is_first,
        was_warm=dice.random() < 0.5,
        is_hurried=dice.random() < 0.5,
        steps=steps,
        watch_seconds=watch,
        breach_at=dice.choice(steps),
        stewards=stewards,
        faults=faults,
    )


def _fault(dice: random.Random, length: float, steps: int, stewards: int) -> Fault:  # noqa: C901, PLR0911, PLR0912  one arm per fault
    second = dice.uniform(0, length + 20)
    process = dice.choice((WALKER, WALKER, *range(FIRST_STEWARD, FIRST_STEWARD + stewards)))
    moment = dice.randint(1, 60 + 14 * steps) if process == WALKER else dice.randint(1, 40)
    match dice.choices(range(15), weights=(10, 2, 4, 6, 3, 3, 1, 1, 3, 1, 3, 1, 1, 2, 1))[0]:
        case 0:
            return Kill(process, moment)
        case 1:
            return KillLater(process, second)
        case 2:
            return Freeze(process, moment, dice.choice((5.0, 20.0, 40.0, 90.0)) + dice.uniform(0, 5), dice.random() < 0.5)
        case 3:
            verb, times = dice.choice(VERBS), None if dice.random() < 0.1 else dice.randint(1, 5)
            if verb == "retire" and dice.random() < 0.3:
                times = LONGER_THAN_ANY_DEADLINE
            return Fails(verb, dice.randint(1, 5), times, dice.choice(("before", "half", "after", "lost")))
        case 4:
            return Deaf(second, dice.uniform(2, 30))
        case 5:
            return Dies(dice.choice(("blue", "green")), dice.choice((1, 2)), second)
        case 6:
            return Unseen(second, dice.uniform(2, 40))
        case 7:
            return Silent(second, dice.uniform(5, 90))
        case 8:
            return Away(second, dice.choice((3.0, 10.0, 25.0)) + dice.uniform(0, 1), dice.random() < 0.5)
        case 9:
            return Jump(process, second, dice.choice((30.0, 3600.0)))
        case 10:
            return Cancel(second)
        case 11:
            return Duplicate(second)
        case 12:
            return Hangs(process, moment, dice.choice((10.0, 60.0, 300.0)))
        case 13:
            return FreezeLater(process, second, dice.uniform(1, 60), dice.random() < 0.5)
        case _:
            return Intruder(second)
