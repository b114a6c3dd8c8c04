"""Why nobody should decide now although nothing speaks against green in particular; each is a sentence."""

from math import sqrt

from delivery.canary import JudgePolicy, Look, State
from delivery.verdict import duration, percent

LEAST_REQUESTS = 20
LEAK_LOOKS = 15


def hold(state: State, look: Look, policy: JudgePolicy) -> str | None:
    """The first reason to hold, or None. Holding is neither forward nor back."""
    if look.breach is not None:
        return f"{look.breach}, and so it is with blue"
    if look.lost:
        return "the metrics could not be read"
    return _both_sick(state, policy) or _leak(state, policy)


def _both_sick(state: State, policy: JudgePolicy) -> str | None:
    """A sick blue is no measure, unless green repairs it."""
    if len(state.recent) < 2:
        return None
    two = state.recent[0] + state.recent[1]
    if any(colour.requests < LEAST_REQUESTS or colour.error_rate <= policy.sick_rate for colour in (two.green, two.blue)):
        return None
    return f"both are sick: blue answers {percent(two.blue.error_rate)} errors in the last two looks, green {percent(two.green.error_rate)}"


def _leak(state: State, policy: JudgePolicy) -> str | None:
    """Memory that grows steadily and will pass the limit within the horizon.

    Least squares over the last fifteen looks of green's memory less blue's; a slope of more than six standard
    errors, with se^2 = (sum of squared residuals / 13) / sum (t - mean t)^2.
    """
    points = state.memory
    if len(points) < LEAK_LOOKS:
        return None
    mean_t = sum(t for t, _, _ in points) / LEAK_LOOKS
    mean_d = sum(green - blue for _, green, blue in points) / LEAK_LOOKS
    spread = sum((t - mean_t) ** 2 for t, _, _ in points)
    slope = sum((t - mean_t) * (green - blue - mean_d) for t, green, blue in points) / spread if spread else 0.0
    if slope <= 0:
        return None
    residue = sum((green - blue - mean_d - slope * (t - mean_t)) ** 2 for t, green, blue in points)
    seconds = (policy.memory_limit - points[-1][1]) / slope
    if slope <= 6 * sqrt(residue / (LEAK_LOOKS - 2) / spread) or seconds > policy.leak_horizon_seconds:
        return None
    return f"green's memory grows and will pass {percent(policy.memory_limit)} of its limit in {duration(seconds)}"
