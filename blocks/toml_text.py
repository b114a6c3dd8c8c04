"""The text of a TOML file: read with care, understood or refused with its line, and the line of each key."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from delivery.errors import InvalidSettings

Place = tuple[str | int, ...]

LARGEST_BYTES = 1024 * 1024
_DEEPEST = 32
_LONGEST_LINE = 10_000

# A key or table name: bare, "basic" or 'literal', with dots between the parts.
_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_KEY = rf"{_PART}(?:\s*\.\s*{_PART})*"
_TABLE = re.compile(rf"\s*(\[\[?)\s*({_KEY})\s*\]\]?")
_ASSIGNMENT = re.compile(rf"\s*({_KEY})\s*=\s*")
_TOKEN = re.compile(r"""\"\"\"|'''|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|\#[^\n]*|[\[\]{}]""")


def text_of(file: Path, *, next_step: str) -> str:
    """What a file says. Raises `InvalidSettings` for one that is not there, no file, too large, or not UTF-8 text."""
    try:
        if file.exists() and not file.is_file():
            raise InvalidSettings(f"{file} is no file.", next=next_step)
        with file.open("rb") as opened:
            data = opened.read(LARGEST_BYTES + 1)
        if len(data) > LARGEST_BYTES:
            raise InvalidSettings(f"{file} is larger than 1 MB.", next="write what people can read.")
        text = data.decode("utf-8")
    except FileNotFoundError:
        raise InvalidSettings(f"There is no file {file}.", next=next_step) from None
    except UnicodeDecodeError as broken:
        raise InvalidSettings(f"{file} cannot be read: it is not UTF-8 (byte {broken.start + 1}).", next="save it as UTF-8.") from None
    except OSError as broken:
        raise InvalidSettings(f"{file} cannot be read ({type(broken).__name__}).", next="make it a readable UTF-8 file.") from None
    if text.startswith("\ufeff"):
        raise InvalidSettings(f"{file} begins with a byte order mark.", next="save it as UTF-8 without one.")
    if (before := text.find("\0")) >= 0:
        line = text.count("\n", 0, before) + 1
        raise InvalidSettings(f"{file}:{line}: got a NUL character, expected text.", next="save it as UTF-8.")
    return text


def toml_of(file: Path, text: str) -> Mapping[str, Any]:
    """What the text means. Raises `InvalidSettings` with the line, and never with what stands there."""
    deep = InvalidSettings(f"{file}: got tables or lists within each other without end.", next="correct the file.")
    for number, written in enumerate(text.split("\n"), start=1):
        if len(written) > _LONGEST_LINE:  # keys of thousands of parts take tomllib minutes
            raise InvalidSettings(f"{file}:{number}: got a line of {len(written)} characters.", next="write what people can read.")
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as wrong:
        line = _line_of(wrong, text)
        reason = re.sub(r" \(at .*\)$", "", str(wrong))
        twice = _first_of_two(text, line) if reason.startswith(("Cannot overwrite", "Cannot declare")) else ""
        raise InvalidSettings(f"{file}:{line}: not TOML: {twice or _without_names(reason)}.", next="correct the line.") from None
    except RecursionError:
        raise deep from None
    except ValueError as wrong:  # Python's own words about a number of thousands of digits, or a day that no calendar has
        raise InvalidSettings(f"{file}: not TOML: got a value that cannot be one ({type(wrong).__name__}).", next="correct it.") from None
    if _depth(data) > _DEEPEST:
        raise deep
    return data


def _line_of(wrong: tomllib.TOMLDecodeError, text: str) -> int:
    """Tomllib tells a line, or the end of the document."""
    at_line = re.search(r"\(at line (\d+), column \d+\)", str(wrong))
    return int(at_line[1]) if at_line else text.rstrip("\n").count("\n") + 1


def _first_of_two(text: str, line: int) -> str:
    """What is said twice, when a file says so in this line."""
    known: dict[Place, int] = {}
    for place, number in key_lines("\n".join(text.split("\n")[:line])):
        if number == line and place in known:
            return f"{'.'.join(map(str, place))} is there twice, first in line {known[place]}"
        known.setdefault(place, number)
    return ""


def _without_names(reason: str) -> str:
    """Tomllib tells single characters, and tables by their names as Python writes them."""
    return re.sub(r"\(('[^']*',? ?)+\)", "a table", reason)


def _depth(data: Any) -> int:
    depth, level = 0, [data]
    while level and depth <= _DEEPEST:
        depth += 1
        level = [
            inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer) if isinstance(inner, dict | list)
        ]
    return depth


def key_lines(text: str) -> Iterator[tuple[Place, int]]:
    """Each table and key of a TOML text that tomllib has accepted, with its line (from 1). tomllib itself keeps no lines.

    Values may span lines (lists, inline tables, long strings): what stands inside them is skipped, and belongs to its key's line.
    """
    table: Place = ()
    counts: dict[Place, int] = {}
    depth, long_string = 0, ""
    for number, line in enumerate(text.split("\n"), start=1):  # other characters end no line in TOML
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
    return tuple(next(iter(tomllib.loads(f"{part} = 0"))) for part in re.findall(_PART, key))


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
