"""`greenroom replay`: recorded samples through the very rules that watch a rollout."""

import json
import math
import sys
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from delivery.errors import InvalidSettings
from delivery.triggers import Metric, Sample, Trigger, fires_at

STANDARD_INPUT = Path("-")


def print_firings(file: Path) -> None:
    """One JSON line per case. The whole file is read before the first line is printed, so that a bad one prints none."""
    name, document = read_document(file)
    read = [_parsed(case, where=f"{name}: cases[{index}]") for index, case in enumerate(document["cases"])]
    for identity, trigger, samples in read:
        print(json.dumps({"id": identity, "fires_at": _as_integer_if_whole(fires_at(trigger, samples))}))


def read_document(file: Path) -> tuple[str, dict[str, Any]]:
    """The file's name for messages and its JSON object, which has a list under the key `cases`."""
    name, document = read_json(file, holding="cases")
    cases = document.get("cases") if isinstance(document, dict) else None
    if not isinstance(cases, list):
        raise InvalidSettings(f"{name}: got no list under the key cases, expected one.", next='write {"cases": [ … ]}.')
    return name, document


def read_json(file: Path, *, holding: str) -> tuple[str, Any]:
    """What people call the file, and its JSON document."""
    name = "standard input" if file == STANDARD_INPUT else str(file)
    try:
        text = sys.stdin.read() if file == STANDARD_INPUT else file.read_text(encoding="utf-8")
        return name, json.loads(text)
    except OSError as error:
        raise InvalidSettings(f"{name} cannot be read: {error.strerror}.", next=f"pass the path of a file with {holding}, or -.") from error
    except UnicodeDecodeError as error:
        raise InvalidSettings(f"{name} is not UTF-8 text.", next="pass a JSON file.") from error
    except json.JSONDecodeError as error:
        raise InvalidSettings(f"{name}:{error.lineno}:{error.colno} is not JSON: {error.msg}.", next="correct the file.") from error


def _parsed(case: Any, *, where: str) -> tuple[int | str, Trigger, list[Sample]]:
    """Keys that say what somebody expects are not looked at."""
    identity = field_of(case, "id", where=where)
    if not isinstance(identity, int | str):
        raise refused(where, "id", identity, "a number or a string")
    rule = field_of(case, "rule", where=where)
    here = f"{where}.rule"
    metric = field_of(rule, "metric", where=here)
    if metric not in get_args(Metric):
        raise refused(here, "metric", metric, f"one of {', '.join(get_args(Metric))}")
    if (operator := field_of(rule, "op", where=here, default=">")) != ">":
        raise refused(here, "op", operator, "'>'")
    gap = field_of(rule, "max_gap_s", where=here, default=None)
    trigger = Trigger(
        metric=metric,
        threshold=as_number(field_of(rule, "threshold", where=here), where=f"{here}.threshold"),
        for_seconds=as_number(field_of(rule, "for_s", where=here), where=f"{here}.for_s"),
        max_gap_seconds=Trigger.max_gap_seconds if gap is None else as_number(gap, where=f"{here}.max_gap_s"),
    )
    samples = field_of(case, "samples", where=where)
    if not isinstance(samples, list):
        raise refused(where, "samples", samples, "a list of [seconds, value]")
    return identity, trigger, [_sample(sample, where=f"{where}.samples[{index}]") for index, sample in enumerate(samples)]


def _sample(sample: Any, *, where: str) -> Sample:
    if not isinstance(sample, list) or len(sample) != 2:
        raise InvalidSettings(f"{where}: got {shown(sample)}, expected [seconds, value or null].", next="correct the file.")
    at, value = sample
    return Sample(as_number(at, where=where), None if value is None else as_number(value, where=where, may_be_nan=True))


_MISSING = object()


def field_of(document: Any, key: str, *, where: str, default: Any = _MISSING) -> Any:
    if not isinstance(document, Mapping):
        raise InvalidSettings(f"{where}: got {shown(document)}, expected an object.", next="correct the file.")
    value = document.get(key, default)
    if value is _MISSING:
        raise InvalidSettings(f"{where}: got no {key}, expected one.", next="correct the file.")
    return value


def only_known_keys(document: Any, keys: Collection[str], *, where: str) -> None:
    """Notes of somebody's own are not looked at; what reads like one of our keys and is none would be left out in silence."""
    if not isinstance(document, Mapping):
        raise InvalidSettings(f"{where}: got {shown(document)}, expected an object.", next="correct the file.")
    for key in document:
        if key not in keys and (meant := get_close_matches(key, keys, n=1, cutoff=0.8)):
            raise InvalidSettings(f"{where}: got the key {shown(key)}, expected {shown(meant[0])}.", next="correct the file.")


def as_number(value: Any, *, where: str, may_be_nan: bool = False, may_be_infinite: bool = False) -> float:
    usual = not isinstance(value, bool) and isinstance(value, int | float)
    if not usual or (math.isnan(value) and not may_be_nan) or (math.isinf(value) and not (may_be_nan or may_be_infinite)):
        raise InvalidSettings(f"{where}: got {shown(value)}, expected a number.", next="correct the file.")
    return float(value)


def refused(where: str, key: str, got: Any, expected: str) -> InvalidSettings:
    return InvalidSettings(f"{where}.{key}: got {shown(got)}, expected {expected}.", next="correct the file.")


def shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:80]


def _as_integer_if_whole(seconds: float | None) -> float | int | None:
    return int(seconds) if seconds is not None and seconds.is_integer() else seconds
