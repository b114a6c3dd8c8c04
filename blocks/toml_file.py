"""TOML that people write, as values: wrong input is refused as a whole, every mistake at once, with the place, what was got, what was
expected and what to do.
"""

import difflib
import json
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime, time
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from blocks.documents import adapter_of
from delivery.errors import InvalidSettings

T = TypeVar("T")
Place = tuple[str | int, ...]


@dataclass(frozen=True)
class TomlFile:
    """One TOML file with the line of each key."""

    file: Path
    data: Mapping[str, Any]
    lines: Mapping[Place, int]

    @classmethod
    def read(cls, file: Path, *, next_step: str) -> "TomlFile":
        try:
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise InvalidSettings(f"There is no file {file}.", next=next_step) from None
        except (OSError, UnicodeDecodeError) as broken:
            raise InvalidSettings(f"{file} cannot be read ({type(broken).__name__}).", next="make it a readable UTF-8 file.") from None
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as wrong:
            at_line = re.search(r"\(at line (\d+), column \d+\)", str(wrong))
            place = f"{file}:{at_line[1]}" if at_line else str(file)
            reason = re.sub(r" \(at .*\)$", "", str(wrong))
            raise InvalidSettings(f"{place}: not TOML: {reason}.", next="correct the line.") from None
        return cls(file, data, dict(key_lines(text)))

    def parsed(self, kind: type[T], *, next_step: str) -> T:
        mistakes = {place: f"got {got}, expected {expected}" for place, got, expected in _not_json(self.data, ())}
        try:
            value: T = adapter_of(kind).validate_json(json.dumps(self.data, default=str), strict=True)
        except ValidationError as wrong:
            mistakes = {error["loc"]: self._mistake(kind, error) for error in wrong.errors(include_url=False)} | mistakes
        if not mistakes:
            return value
        in_order = sorted(mistakes, key=self._line)
        raise InvalidSettings("\n".join(self._sentence(place, mistakes[place]) for place in in_order), next=next_step) from None

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
            raise InvalidSettings("\n".join(found), next=next_step)

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
        got = "a value that is not shown" if place[:1] == ("secrets",) else _shown(error["input"])
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


def _shown(value: Any) -> str:
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


# A key or table name: bare, "basic" or 'literal', with dots between the parts.
_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_KEY = rf"{_PART}(?:\s*\.\s*{_PART})*"
_TABLE = re.compile(rf"\s*(\[\[?)\s*({_KEY})\s*\]\]?")
_ASSIGNMENT = re.compile(rf"\s*({_KEY})\s*=\s*")
_TOKEN = re.compile(r"""\"\"\"|'''|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|\#[^\n]*|[\[\]{}]""")


def key_lines(text: str) -> Iterator[tuple[Place, int]]:
    """Each table and key of a TOML text that tomllib has accepted, with its line (from 1). tomllib itself keeps no lines.

    Values may span lines (lists, inline tables, long strings): what stands inside them is skipped, and belongs to its key's line.
    """
    table: Place = ()
    counts: dict[Place, int] = {}
    depth, long_string = 0, ""
    for number, line in enumerate(text.splitlines(), start=1):
        start = 0
        if not depth and not long_string:
            if header := _TABLE.match(line):
                table = _resolved(_parts(header[2]), counts, opens_element=header[1] == "[[")
                yield table, number
                continue
            assignment = _ASSIGNMENT.match(line)
            if not assignment:
                continue
            yield (*table, *_parts(assignment[1])), number
            start = assignment.end()
        depth, long_string = _after_line(line, start, depth=depth, long_string=long_string)


def _after_line(line: str, start: int, *, depth: int, long_string: str) -> tuple[int, str]:
    """How many brackets are open, and which long string, at the end of a line."""
    while True:
        if long_string:
            end = line.find(long_string, start)
            while long_string == '"""' and end > 0 and line[end - 1] == "\\":
                end = line.find(long_string, end + 1)
            if end < 0:
                return depth, long_string
            start, long_string = end + 3, ""
        token = _TOKEN.search(line, start)
        if not token:
            return depth, ""
        start = token.end()
        if token[0] in {'"""', "'''"}:
            long_string = token[0]
        elif token[0] in {"[", "{"}:
            depth += 1
        elif token[0] in {"]", "}"}:
            depth -= 1


def _parts(key: str) -> tuple[str, ...]:
    return tuple(json.loads(part) if part.startswith('"') else part.strip("'") for part in re.findall(_PART, key))


def _resolved(parts: tuple[str, ...], counts: dict[Place, int], *, opens_element: bool) -> Place:
    """The place of a table header: `[service.settings]` after the second `[[service]]` is ("service", 1, "settings")."""
    place: Place = ()
    for index, part in enumerate(parts):
        place = (*place, part)
        if index == len(parts) - 1 and opens_element:
            counts[place] = counts.get(place, -1) + 1
        if place in counts:
            place = (*place, counts[place])
    return place
