"""`greenroom replay judge`: recorded canaries through the very judge that watches a rollout."""

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.replay import STANDARD_INPUT, as_number, field_of, only_known_keys, refused, shown
from delivery.canary import FINAL, Context, JudgePolicy, Look, State
from delivery.errors import InvalidSettings
from delivery.evidence import NOTHING_SEEN, Counts, Pair
from delivery.judge import Judge
from delivery.noise import QUIET, Halves, measured_noise
from delivery.triggers import Sample, Trigger, fires_at
from delivery.verdict import Verdict

CONTEXT_KEYS = frozenset({"look_seconds", "looks_planned", "bounds", "base", "alpha", "promotion_enabled", "aa"})
COUNT_KEYS = ("n_g", "n_b", "x_g", "x_b")
LOOK_KEYS = frozenset({"look", "seconds", *COUNT_KEYS, "h_g", "h_b", "groups", "gauges"})
GAUGE_KEYS = frozenset({"memory_g", "memory_b"})
HALVES_KEYS = ("n_1", "n_2", "x_1", "x_2")
MEMORY_SECONDS = 300.0  # green's memory above the judge's limit for so long is a sustained trigger
PERCENT_FROM = 1.5  # a memory gauge above it is a percentage; no replica has half as much again as its limit


@dataclass
class Canary:
    """One context line and the looks that follow it."""

    judge: Judge
    looks: list[Look] = field(default_factory=list)


def print_verdicts(file: Path, *, keep_going: bool) -> None:
    """One JSON line per look. The whole file is read before the first line is printed, so that a bad one prints none."""
    for canary in _canaries(file):
        for verdict in _verdicts(canary, keep_going=keep_going):
            print(json.dumps({"verdict": verdict.decision.value, "evidence": verdict.evidence, "reason": verdict.reason}))


def _verdicts(canary: Canary, *, keep_going: bool) -> Iterator[Verdict]:
    state = State()
    for look in canary.looks:
        state, verdict = canary.judge.look(state, look)
        yield verdict
        if verdict.decision in FINAL and not keep_going:
            return


def _canaries(file: Path) -> list[Canary]:
    name = "standard input" if file == STANDARD_INPUT else str(file)
    found: list[Canary] = []
    samples: list[Sample] = []
    for number, line in enumerate(_lines(file, name), 1):
        where = f"{name}:{number}"
        if not line.strip():
            continue
        try:
            document = json.loads(line)
        except json.JSONDecodeError as error:
            raise InvalidSettings(f"{where}:{error.colno} is not JSON: {error.msg}.", next="write one JSON object a line.") from error
        if not isinstance(document, Mapping):
            raise InvalidSettings(f"{where}: got {shown(document)}, expected a context or a look.", next="correct the file.")
        if "context" in document:
            only_known_keys(document, {"context"}, where=where)
            found.append(Canary(_judge(document["context"], where=f"{where}.context")))
            samples = []
        elif not found:
            raise InvalidSettings(f"{where}: got a look, expected a context first.", next='begin with {"context": { … }}.')
        else:
            found[-1].looks.append(_look(document, found[-1], samples, where=where))
    if not found:
        raise InvalidSettings(f"{name}: got no canary, expected a context line and its looks.", next='begin with {"context": { … }}.')
    return found


def _lines(file: Path, name: str) -> list[str]:
    try:
        text = sys.stdin.read() if file == STANDARD_INPUT else file.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidSettings(f"{name} cannot be read: {error.strerror}.", next="pass the path of a file with canaries, or -.") from error
    except UnicodeDecodeError as error:
        raise InvalidSettings(f"{name} is not UTF-8 text.", next="pass a file of JSON lines.") from error
    return text.split("\n")


def _judge(document: Any, *, where: str) -> Judge:
    only_known_keys(document, CONTEXT_KEYS, where=where)
    bounds = [
        as_number(bound, where=f"{where}.bounds[{index}]", may_be_infinite=True)
        for index, bound in enumerate(_list(document, "bounds", where=where))
    ]
    if bounds and bounds[-1] == math.inf:  # some write the last bucket's bound, which is no number in JSON
        bounds.pop()
    base = [as_number(share, where=f"{where}.base[{index}]") for index, share in enumerate(_list(document, "base", where=where))]
    alpha = as_number(field_of(document, "alpha", where=where, default=0.01), where=f"{where}.alpha")
    if not 0 < alpha < 1:
        raise refused(where, "alpha", alpha, "a number between 0 and 1")
    enabled = field_of(document, "promotion_enabled", where=where, default=True)
    if not isinstance(enabled, bool):
        raise refused(where, "promotion_enabled", enabled, "true or false")
    measured = field_of(document, "aa", where=where, default=None)
    if measured is not None and not isinstance(measured, list):
        raise refused(where, "aa", measured, "null or a list of looks at two halves of blue")
    context = Context(
        look_seconds=as_number(field_of(document, "look_seconds", where=where), where=f"{where}.look_seconds"),
        looks_planned=_count(field_of(document, "looks_planned", where=where), where=f"{where}.looks_planned"),
        bounds=tuple(bounds),
        base=tuple(base),
        noise=QUIET if measured is None else measured_noise(_halves(measured, where=f"{where}.aa")),
        promotion_enabled=enabled,
    )
    if problems := context.problems():
        raise InvalidSettings("\n".join(f"{where}.{problem}." for problem in problems), next="correct the file.")
    return Judge(context, JudgePolicy(alpha=alpha))


def _halves(looks: Sequence[Any], *, where: str) -> list[Halves]:
    found = []
    for index, look in enumerate(looks):
        here = f"{where}[{index}]"
        only_known_keys(look, HALVES_KEYS, where=here)
        n_1, n_2, x_1, x_2 = (_count(field_of(look, key, where=here), where=f"{here}.{key}") for key in HALVES_KEYS)
        for key, errors, requests in (("x_1", x_1, n_1), ("x_2", x_2, n_2)):
            if errors > requests:
                raise refused(here, key, errors, f"at most the {requests} requests")
        found.append(Halves(n_1, n_2, x_1, x_2))
    return found


def _look(document: Mapping[str, Any], canary: Canary, samples: list[Sample], *, where: str) -> Look:
    only_known_keys(document, LOOK_KEYS, where=where)
    number = _count(field_of(document, "look", where=where), where=f"{where}.look")
    last = canary.looks[-1].number if canary.looks else 0
    if number <= last:
        raise refused(where, "look", number, f"more than {last}")
    context = canary.judge.context
    seconds = as_number(field_of(document, "seconds", where=where, default=context.look_seconds), where=f"{where}.seconds")
    if seconds <= 0:
        raise refused(where, "seconds", seconds, "more than 0")
    groups = field_of(document, "groups", where=where, default=None) or {}
    if not isinstance(groups, Mapping):
        raise refused(where, "groups", groups, "an object of groups by name")
    memory = _memory(document, where=where)
    ended = (samples[-1].at if samples else 0.0) + seconds
    samples.append(Sample(ended, None if memory is None else memory[0]))
    buckets = len(context.bounds) + 1
    return Look(
        number=number,
        seconds=seconds,
        counts=_pair(document, where=where, buckets=buckets),
        groups={name: _group(group, where=f"{where}.groups.{name}") for name, group in groups.items()},
        memory=memory,
        breach=_breach(canary.judge, samples),
    )


def _breach(judge: Judge, samples: Sequence[Sample]) -> str | None:
    """What the sustained trigger says of green's memory; gaps of up to a look and a half are bridged."""
    value = samples[-1].value
    if value is None or value <= judge.policy.memory_limit:
        return None
    longest = max(1.5 * judge.context.look_seconds, 45.0)
    trigger = Trigger("memory", judge.policy.memory_limit, MEMORY_SECONDS, max_gap_seconds=longest)
    return None if fires_at(trigger, samples) is None else trigger.sentence(value)


def _group(document: Any, *, where: str) -> Pair:
    only_known_keys(document, COUNT_KEYS, where=where)
    return _pair(document, where=where)


def _pair(document: Mapping[str, Any], *, where: str, buckets: int | None = None) -> Pair:
    n_g, n_b, x_g, x_b = (_count(field_of(document, key, where=where), where=f"{where}.{key}") for key in COUNT_KEYS)
    for key, errors, requests in (("x_g", x_g, n_g), ("x_b", x_b, n_b)):
        if errors > requests:
            raise refused(where, key, errors, f"at most the {requests} requests")
    if buckets is None:
        return Pair(Counts(n_g, x_g), Counts(n_b, x_b))
    h_g, h_b = (_histogram(document, key, buckets=buckets, where=where) for key in ("h_g", "h_b"))
    pair = Pair(Counts(n_g, x_g, h_g), Counts(n_b, x_b, h_b))
    return pair if pair != NOTHING_SEEN else NOTHING_SEEN


def _histogram(document: Mapping[str, Any], key: str, *, buckets: int, where: str) -> tuple[int, ...]:
    counts = _list(document, key, where=where)
    if len(counts) != buckets:
        raise InvalidSettings(f"{where}.{key}: got {len(counts)} buckets, expected {buckets} as in the context.", next="correct the file.")
    return tuple([_count(count, where=f"{where}.{key}[{index}]") for index, count in enumerate(counts)])


def _memory(document: Mapping[str, Any], *, where: str) -> tuple[float, float] | None:
    """Both colours' memory as shares of their limits; None when one of them is not known."""
    gauges = field_of(document, "gauges", where=where, default=None) or {}
    only_known_keys(gauges, GAUGE_KEYS, where=f"{where}.gauges")
    green, blue = gauges.get("memory_g"), gauges.get("memory_b")
    if green is None or blue is None:
        return None
    return _share(green, where=f"{where}.gauges.memory_g"), _share(blue, where=f"{where}.gauges.memory_b")


def _share(value: Any, *, where: str) -> float:
    number = as_number(value, where=where)
    if number < 0:
        raise InvalidSettings(f"{where}: got {shown(value)}, expected 0 or more.", next="correct the file.")
    return number / 100 if number > PERCENT_FROM else number


def _list(document: Any, key: str, *, where: str) -> list[Any]:
    value = field_of(document, key, where=where)
    if not isinstance(value, list):
        raise refused(where, key, value, "a list")
    return value


def _count(value: Any, *, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0 or value != int(value):
        raise InvalidSettings(f"{where}: got {shown(value)}, expected a whole number, 0 or more.", next="correct the file.")
    return int(value)
