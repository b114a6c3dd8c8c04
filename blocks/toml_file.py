"""TOML that people write, as values: wrong input is refused as a whole, every mistake at once, with the place, what was got, what was
expected and what to do.
"""

import difflib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime, time
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from blocks.documents import adapter_of
from blocks.toml_text import Place, key_lines, text_of, toml_of
from delivery.errors import InvalidSettings
from delivery.literal_secrets import is_secret_name, looks_secret
from delivery.redaction import HIDDEN

T = TypeVar("T")

MOST_TOLD = 50


@dataclass(frozen=True)
class TomlFile:
    """One TOML file with the line of each key."""

    file: Path
    data: Mapping[str, Any]
    lines: Mapping[Place, int]

    @classmethod
    def read(cls, file: Path, *, next_step: str) -> "TomlFile":
        text = text_of(file, next_step=next_step)
        return cls(file, toml_of(file, text), dict(key_lines(text)))

    def parsed(self, kind: type[T], *, next_step: str) -> T:
        mistakes = {place: f"got {got}, expected {expected}" for place, got, expected in _not_json(self.data, ())}
        try:
            value: T = adapter_of(kind).validate_json(json.dumps(_without_huge(self.data), default=str), strict=True)
        except ValidationError as wrong:
            mistakes = {error["loc"]: self._mistake(kind, error) for error in wrong.errors(include_url=False)} | mistakes
        if not mistakes:
            return value
        in_order = sorted(mistakes, key=self._line)
        raise self._all_of([self._sentence(place, mistakes[place]) for place in in_order], next_step) from None

    def refuse(self, problems: Iterable[str], *, next_step: str) -> None:
        """Raises when there are problems (`key: got …, expected …`); a key that stands at one place only gets its line."""
        at: dict[str, set[int]] = {}
        for place, line in self.lines.items():
            for name in (self._name(place), ".".join(str(part) for part in place if isinstance(part, str))):
                at.setdefault(name, set()).add(line)
        found = []
        for problem in problems:
            key = problem.partition(": ")[0]
            lines = at.get(key) or at.get(key.rpartition(".")[0]) or set()
            found.append(f"{self.file}{f':{min(lines)}' if len(lines) == 1 else ''} {problem}")
        if found:
            raise self._all_of(found, next_step)

    def _all_of(self, mistakes: list[str], next_step: str) -> InvalidSettings:
        """All at once, as far as anybody would read; what looks like a secret in the file is shown by none, wherever it was written."""
        more = [f"and {len(mistakes) - MOST_TOLD} more."] if len(mistakes) > MOST_TOLD else []
        told = "\n".join([*mistakes[:MOST_TOLD], *more])
        for secret in sorted(_secrets_in(self.data), key=len, reverse=True):
            told = told.replace(secret, HIDDEN).replace(repr(secret)[1:-1], HIDDEN)
        return InvalidSettings(told, next=next_step)

    @staticmethod
    def _mistake(kind: type, error: ErrorDetails) -> str:
        place = error["loc"]
        if error["type"] in {"unexpected_keyword_argument", "extra_forbidden"}:
            known = _keys_at(kind, place[:-1])
            close = difflib.get_close_matches(str(place[-1]), known, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            return f"got an unknown key, expected one of: {', '.join(known)}{hint}"
        if error["type"] in {"missing", "missing_argument"}:
            return "got nothing, expected this key"
        # Whoever takes [secrets] for the place of the secrets themselves must not see them told.
        got = "a value that is not shown" if place[:1] == ("secrets",) else _shown(error["input"], named=place)
        return f"got {got}, expected {expected(error)}"

    def _sentence(self, place: Place, text: str) -> str:
        return f"{self.file}:{self._line(place)} {self._name(place)}: {text}"

    def _line(self, place: Place) -> int:
        """Of the key itself, or of the nearest thing around it that has one."""
        return next((self.lines[place[:end]] for end in range(len(place), 0, -1) if place[:end] in self.lines), 1)

    def _name(self, place: Place) -> str:
        """`service api.port` for an element that has a name, `smoke[2].path` (counted from 1) for one that has none."""
        name = ""
        here: Any = self.data
        for part in place:
            here = here[part] if _holds(here, part) else {}
            if isinstance(part, str):
                name += f".{part}" if name else part
            elif isinstance(here, dict) and isinstance(here.get("name"), str):
                name += f" {here['name']}"
            else:
                name += f"[{part + 1}]"
        return name


def _secrets_in(value: Any) -> Iterator[str]:
    """Every text and key that looks like a secret. (What is one by the name of its variable is never shown.)"""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _secrets_in(key)
            yield from _secrets_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _secrets_in(inner)
    elif isinstance(value, str) and looks_secret(value):
        yield value


def _holds(container: Any, part: str | int) -> bool:
    if isinstance(container, dict):
        return part in container
    return isinstance(container, list) and isinstance(part, int) and part < len(container)


def _not_json(value: Any, place: Place) -> Iterator[tuple[Place, str, str]]:
    """TOML values that no setting can hold: dates, times, NaN and infinity."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _not_json(inner, (*place, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _not_json(inner, (*place, index))
    elif isinstance(value, date | datetime | time):
        yield place, f"the date or time {value}", "text in quotes or a number"
    elif isinstance(value, float) and not math.isfinite(value):
        yield place, str(value), "a finite number"
    elif _is_huge(value):
        yield place, "a number of more than 64 bits", "a smaller one"


def _is_huge(value: Any) -> bool:
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def _without_huge(value: Any) -> Any:
    """The same with 0 for whole numbers that TOML does not have, and that Python would not even print."""
    if isinstance(value, dict):
        return {key: _without_huge(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_huge(inner) for inner in value]
    return 0 if _is_huge(value) else value


_EXPECTATIONS = {
    "date_parsing": "a day like 2026-12-31",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "string_type": "text in quotes",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a table",
    "mapping_type": "a table",
    "dataclass_type": "a table",
    "dataclass_exact_type": "a table",
}


def expected(error: ErrorDetails) -> str:
    """What pydantic wanted, in the words of those who write these files."""
    if error["type"] == "literal_error":
        return f"one of {error['ctx']['expected']}"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"]).removeprefix("expected ")
    told = _EXPECTATIONS.get(error["type"])
    return told or re.sub(r"^(Input|String) should (be |have |match )?", "", error["msg"])


def _shown(value: Any, *, named: Place) -> str:
    if any(is_secret_name(str(part)) for part in named) or (isinstance(value, str) and looks_secret(value)):
        return "a value that is not shown"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)[:80]


def _keys_at(kind: Any, place: Place) -> list[str]:
    """The keys that the type knows at a place of the document."""
    for part in place:
        kind = _inner(kind, part)
    kind = _without_none(kind)
    return [field.name for field in fields(kind)] if is_dataclass(kind) else []


def _inner(kind: Any, part: str | int) -> Any:
    kind = _without_none(kind)
    if is_dataclass(kind) and isinstance(kind, type):
        return get_type_hints(kind).get(str(part))
    arguments = get_args(kind)
    if not arguments:
        return None
    return arguments[0] if isinstance(part, int) else arguments[-1]


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in {Union, UnionType}:
        return next(inner for inner in get_args(kind) if inner is not type(None))
    return kind
