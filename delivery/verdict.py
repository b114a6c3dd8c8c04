"""A verdict, in words that a person understands: `green answers 0.9 % errors on POST /listings, blue 0.2 %; 1,840 requests; …`."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log, sqrt

from delivery.application import STRICT
from delivery.canary import FINAL, Context, Decision, JudgePolicy, State
from delivery.evidence import LARGEST

ENDS = {
    Decision.ROLLBACK: "rolled back",
    Decision.PROMOTE: "no worse than the margins allow; promoted",
    Decision.INCONCLUSIVE: "inconclusive",
    Decision.HOLD: "held",
    Decision.CONTINUE: "goes on",
}


@dataclass(frozen=True)
class Verdict:
    """`evidence` that green is worse, as odds against chance; `not_worse` that it is within every margin; both finite. `slow`: the
    strongest part of the evidence compares response times, else errors.
    """

    __pydantic_config__ = STRICT

    decision: Decision
    evidence: float
    not_worse: float
    reason: str
    slow: bool = False

    @property
    def final(self) -> bool:
        return self.decision in FINAL


@dataclass(frozen=True)
class Weighed:
    """The evidence that green is worse by what it comes from, each part already multiplied by its weight in the whole."""

    errors: float
    groups: Mapping[str, float]
    latency: float

    @property
    def evidence(self) -> float:
        return min(self.errors + sum(self.groups.values()) + self.latency, LARGEST)


def sentence(state: State, weighed: Weighed, context: Context, decision: Decision, why: str) -> str:
    """What was compared, how strong the evidence is, why it is no more than that, and what follows."""
    said = _compared(state, weighed, context) if state.errors.totals.comparable else []
    return "; ".join([*said, *([why] if why else []), ENDS[decision]])


def speaks_of_time(state: State, weighed: Weighed) -> bool:
    """Is the strongest part of the evidence about response times?"""
    return state.errors.totals.timed and weighed.latency > max(weighed.errors, *weighed.groups.values(), 1.0)


def _compared(state: State, weighed: Weighed, context: Context) -> list[str]:
    """What the strongest part of the evidence compares; nothing strong speaks of the errors of all."""
    odds = f"evidence {_odds(weighed.evidence)}"
    totals, where = state.errors.totals, ""
    loudest = max(weighed.groups, key=weighed.groups.__getitem__, default=None)
    loud = 0.0 if loudest is None else weighed.groups[loudest]
    if speaks_of_time(state, weighed):
        _, bound, green, blue = max(state.slower(context.bounds))
        time = f"{1000 * bound:g} ms" if bound < 1 else f"{bound:g} s"
        return [f"{percent(green)} of green's answers take longer than {time}, {percent(blue)} of blue's", _requests(totals.requests), odds]
    if loudest is not None and loud > max(weighed.errors, 1.0):
        totals, where = state.groups[loudest].totals, f" on {loudest}"
    rates = f"green answers {percent(totals.green.error_rate)} errors{where}, blue {percent(totals.blue.error_rate)}"
    return [rates, _requests(totals.requests), odds]


def what_is_missing(state: State, evidence: float, policy: JudgePolicy, *, promotion_enabled: bool) -> str:
    """What a promotion still waits for."""
    totals, waiting = state.errors.totals, state.errors.waiting
    if not totals.comparable:
        return f"no requests reach {'green' if not waiting.green.requests else 'blue'}"
    if evidence >= sqrt(1 / policy.alpha):
        return "green is worse, by too little to matter so far" if evidence >= 1 / policy.alpha else "green may be worse"
    if not promotion_enabled:
        return "no reason to go back"
    if totals.green.requests < policy.least_requests:
        return f"green has answered {totals.green.requests:,} of the {policy.least_requests:,} requests needed"
    if state.shown < log(1 / policy.beta):
        names = ("errors", "slow answers", "the usual answer time")
        name = names[state.not_worse.index(min(state.not_worse))]
        return f"not yet shown to be no worse in {name} ({_odds(exp(state.shown))} of {1 / policy.beta:g}:1)"
    return f"{state.warm_looks} of at least {policy.least_looks} looks after the warm-up"


def percent(share: float) -> str:
    number = 100 * share
    return f"{number:.0f} %" if number >= 10 else f"{number:.2g} %"


def duration(seconds: float) -> str:
    return f"{max(seconds, 0.0) / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _requests(number: int) -> str:
    return f"{number:,} requests"


def _odds(evidence: float) -> str:
    if evidence >= 1e6:
        return "more than 1,000,000:1"
    return f"{evidence:,.0f}:1" if evidence >= 10 else f"{evidence:.2g}:1"
