"""The anytime-valid canary judge: compares green with blue from the first request, look by look, and may be asked at any of them.

It rolls back as soon as the evidence against green suffices, promotes as soon as green is shown to be not worse by a margin, and says
"inconclusive" otherwise. Its state is data for the journal, and the same looks give the same verdicts. Absolute limits held over time
are `delivery/triggers.py`; what they say comes in with the look and goes first.

The formulas, their sources and why they hold are in `delivery/evidence.py`, the reasons in docs/adr/0007-an-anytime-valid-judge.md.
"""

from dataclasses import replace
from itertools import accumulate
from math import exp, log, sqrt

from delivery.canary import FINAL, Compared, Context, Decision, JudgePolicy, Look, State
from delivery.errors import InvalidSettings
from delivery.evidence import LARGEST_LOG, Capital, Pair, Slower, error_e_logs, not_worse_e_log, usual_shares
from delivery.holds import LEAK_LOOKS, hold
from delivery.verdict import Verdict, Weighed, sentence, speaks_of_time, what_is_missing

EARLIER_REQUESTS = 50  # what was known before the canary of a share of events is worth so many requests
USUAL_ERRORS = 0.01


class Judge:
    """The judge of one canary. It holds tables only: all that changes is in the `State` that goes from look to look."""

    def __init__(self, context: Context, policy: JudgePolicy | None = None) -> None:
        if problems := context.problems():
            raise InvalidSettings("\n".join(problems), next="correct what is known before the canary.")
        self.context, self.policy = context, policy or JudgePolicy()
        bets = self.policy.bets
        self._slower = Slower(context.bounds, bets.scales, bets.tails)
        self._ratios = (*bets.ratios, self.policy.tolerated_ratio)
        self._later_stake = (1.0 - bets.first_stake) / max(context.looks_planned - 1, 1)
        self._noise = self.policy.error_noise if context.noise.ratio is None else context.noise.ratio
        beyond = list(accumulate(reversed(context.base[1:])))[::-1]  # shares of blue's answers that are slower than each bound
        usable = [number for number, share in enumerate(beyond) if 0.0005 <= share <= 0.9995] or list(range(len(beyond)))
        self._margins = [
            (margin, number, beyond[number])
            for wanted, margin in ((0.05, self.policy.slow_margin), (0.5, self.policy.median_margin))
            for number in [min(usable, key=lambda number: abs(beyond[number] - wanted))]
        ]

    def look(self, state: State, look: Look) -> tuple[State, Verdict]:
        """The state after one more look, for the next one, and the verdict. Looks come in the order of their numbers.

        ROLLBACK is final whatever follows, PROMOTE and INCONCLUSIVE unless evidence against green follows.
        """
        state = self._missed(state, look) if look.lost else self._seen(state, look)
        weighed = self._weighed(state)
        decision, why = self._decision(state, look, weighed)
        state = replace(state, final=decision) if decision in FINAL else state
        told = sentence(state, weighed, self.context, decision, why)
        return state, Verdict(decision, weighed.evidence, exp(min(state.shown, LARGEST_LOG)), told, slow=speaks_of_time(state, weighed))

    # What a look adds to the state.

    def _missed(self, state: State, look: Look) -> State:
        return replace(state, number=look.number, seconds=state.seconds + look.seconds)

    def _seen(self, state: State, look: Look) -> State:
        warmed_up = state.seconds >= self.policy.warm_up_seconds
        # Of a cold start the latency is excused, never the errors.
        counts = look.counts if warmed_up else look.counts.without_buckets()
        pair = state.errors.waiting + counts
        seconds = state.seconds + look.seconds
        stake = self._later_stake * max(look.number - state.number, 1)
        latency, not_worse, shown = state.latency, state.not_worse, state.shown
        if pair.comparable:
            latency = self._latency(state, pair, stake)
            if self.context.promotion_enabled and state.final is None:
                not_worse = self._not_worse(state, pair)
                shown = max(shown, min(not_worse))
        return State(
            number=look.number,
            seconds=seconds,
            errors=self._compared(state.errors, counts, stake),
            groups=self._groups(state, look, stake) if look.groups or state.groups else state.groups,
            latency=latency,
            not_worse=not_worse,
            shown=shown,
            warm_looks=state.warm_looks + (warmed_up and pair.comparable),
            recent=(*state.recent[-1:], look.counts.without_buckets()),
            memory=state.memory if look.memory is None else (*state.memory, (seconds, *look.memory))[-LEAK_LOOKS:],
            final=state.final,
        )

    def _compared(self, before: Compared, counts: Pair, stake: float) -> Compared:
        """One look more of an error comparison. A look with one colour only is kept back until the other one answers."""
        pair, policy = before.waiting + counts, self.policy
        if not pair.comparable:
            return replace(before, waiting=pair)
        logs = error_e_logs(
            pair.green.errors,
            pair.blue.errors,
            share=pair.green.requests / pair.requests,
            ratios=self._ratios,
            worst=policy.worst_ratio,
            noise=self._noise,
            clump=self.context.noise.clump,
        )
        tolerated = logs.pop()
        stake = stake if before.worse.bets else policy.bets.first_stake
        return Compared(
            worse=before.worse.grown(logs, policy.bets.ratio_weights, stake),
            beyond=before.beyond.grown([e - tolerated for e in logs], policy.bets.ratio_weights, stake),
            totals=before.totals + pair,
            weight=before.weight,
        )

    def _groups(self, state: State, look: Look, stake: float) -> dict[str, Compared]:
        """A group that appears later takes its part of what the others have by then, so that their sum stays an e-process."""
        groups = dict(state.groups)
        for name in look.groups:
            if name in groups:
                continue
            parts = len(groups) + 1
            money = sum(group.weight * group.worse.total for group in groups.values()) if state.groups else 1.0
            groups = {known: replace(group, weight=group.weight * (parts - 1) / parts) for known, group in groups.items()}
            groups[name] = Compared(weight=money / parts)
        return {name: self._compared(group, look.groups[name], stake) if name in look.groups else group for name, group in groups.items()}

    def _latency(self, state: State, pair: Pair, stake: float) -> Capital:
        if not pair.timed:
            return state.latency
        base = self.context.base
        usual = usual_shares(base, state.errors.totals.blue.buckets or (0,) * len(base))
        logs = self._slower.e_logs(pair.green.buckets, pair.blue.buckets, usual, noise=self.policy.latency_noise)
        bets = self.policy.bets
        return state.latency.grown(logs, bets.slower_weights, stake if state.latency.bets else bets.first_stake)

    def _not_worse(self, state: State, pair: Pair) -> tuple[float, float, float]:
        """One more look of the three comparisons with a margin: errors, answers slower than about blue's p95, than about its median."""
        totals, (errors, *slow) = state.errors.totals, state.not_worse
        usual = _usual(totals.green.errors + totals.blue.errors, totals.requests, USUAL_ERRORS)
        green, blue = (pair.green.requests, pair.green.errors), (pair.blue.requests, pair.blue.errors)
        errors += not_worse_e_log(green, blue, margin=self.policy.error_margin, usual=usual)
        if pair.timed:
            for place, (margin, number, share) in enumerate(self._margins):
                (n_g, x_g), (n_b, x_b) = totals.green.slower(number), totals.blue.slower(number)
                usual = _usual(x_g + x_b, n_g + n_b, share)
                slow[place] += not_worse_e_log(pair.green.slower(number), pair.blue.slower(number), margin=margin, usual=usual)
        return errors, slow[0], slow[1]

    # What follows from the state.

    def _weighed(self, state: State, *, beyond: bool = False) -> Weighed:
        """The evidence by its parts: with groups, half of what errors weigh is theirs.

        Source: Vovk and Wang, "E-values: calibration, combination and applications", 2021: averages of e-processes are e-processes,
        however they depend on one another. With `beyond` it speaks against "green errs at most as many times as often as is tolerated".
        """
        weight = self.policy.bets.errors_weight
        on_errors = weight / 2 if state.groups else weight
        return Weighed(
            errors=on_errors * (state.errors.beyond if beyond else state.errors.worse).total,
            groups={
                name: on_errors * group.weight * (group.beyond if beyond else group.worse).total for name, group in state.groups.items()
            },
            latency=(1.0 - weight) * state.latency.total,
        )

    def _relevant(self, state: State, weighed: Weighed) -> bool:
        """Is what the evidence speaks of large enough to matter? Parts that are not, do not count; this only ever removes alarms."""
        policy, totals = self.policy, state.errors.totals
        needed, grouped = 1.0 / policy.alpha, bool(state.groups)
        weight = policy.bets.errors_weight
        errors = weighed.errors + sum(weighed.groups.values())
        more = totals.green.error_rate - totals.blue.error_rate
        counts = 0.0
        if grouped or more >= policy.relevant_errors or log(errors / weight) >= log(needed) + 5:
            beyond = self._weighed(state, beyond=True)
            if (beyond.errors + sum(beyond.groups.values())) / weight >= policy.relevant_odds:
                counts += errors
        if grouped or max((more for more, *_ in state.slower(self.context.bounds)), default=-1.0) >= policy.relevant_slow:
            counts += weighed.latency
        return counts >= needed

    def _decision(self, state: State, look: Look, weighed: Weighed) -> tuple[Decision, str]:
        """In this order: what was final, triggers, evidence, holds, margins, deadline. So ROLLBACK wins over PROMOTE at the same look."""
        policy, evidence = self.policy, weighed.evidence
        both_breach = look.blue_breaches and policy.hold_when_both_breach
        if look.breach is not None and not both_breach:
            return Decision.ROLLBACK, look.breach
        if state.final is Decision.ROLLBACK or (evidence >= 1.0 / policy.alpha and self._relevant(state, weighed)):
            return Decision.ROLLBACK, ""
        reason = hold(state, look, policy)
        if state.final is Decision.PROMOTE or (reason is None and self._may_promote(state, evidence)):
            return Decision.PROMOTE, ""
        missing = reason or what_is_missing(state, evidence, policy, promotion_enabled=self.context.promotion_enabled)
        if look.number >= self.context.looks_planned or state.final is Decision.INCONCLUSIVE:
            return Decision.INCONCLUSIVE, missing
        return (Decision.HOLD if reason else Decision.CONTINUE), missing

    def _may_promote(self, state: State, evidence: float) -> bool:
        policy = self.policy
        return (
            self.context.promotion_enabled
            and state.final is None
            and state.shown >= log(1.0 / policy.beta)
            and state.errors.totals.green.requests >= policy.least_requests
            and state.warm_looks >= policy.least_looks
            and evidence < sqrt(1.0 / policy.alpha)
        )


def _usual(events: int, requests: int, before: float) -> float:
    """The share of events known before a look, from the looks before it and from what was usual before the canary."""
    return (events + EARLIER_REQUESTS * before) / (requests + EARLIER_REQUESTS)
