"""Which lines of a tool's output tell a person what is wrong and where. Pure: text in, text out."""

import re
from collections.abc import Callable, Iterable, Sequence

MOST_LINES = 5
LONGEST = 220

_PLACE = r"(?P<place>[\w./@+-]+\.\w+:\d+(?::\d+)?)"
# pytest: `FAILED tests/test_x.py::test_y - assert 1 == 2`; jest: `FAIL tests/x.test.ts`; playwright: `1) [project] > file > title`
_FAILED = re.compile(r"^\s*(?:FAILED|ERROR) \S|^\s*FAIL \S|^\s*\d+\) \[?\S.*\u203a|^would reformat |^ERROR: .+ (?:Imports are|is not)")
# ruff, clang and friends: the place stands below what it is about
_POINTER = re.compile(r"^\s*(?:-->|at .*\(|at |\u276f |Location: )\s*" + _PLACE)
# flake8, mypy, tsc --pretty, pytest's `tests/test_x.py:12: AssertionError`
_LINE = re.compile(r"^\s*(?:E\s+)?" + _PLACE + r"(?::| - | )\s*\S")
# tsc: `src/x.ts(3,7): error TS2322: …`
_TSC = re.compile(r"^\S+\.\w+\(\d+,\d+\): \w+")
# eslint: the file on a line of its own, then `  12:5  error  message  rule`
_ESLINT_FILE = re.compile(r"^(?P<file>/?[\w./@+-]+\.\w{1,4})$")
_ESLINT_ROW = re.compile(r"^\s+(?P<row>\d+:\d+)\s+error\s+(?P<text>.+)$")
_BANDIT = re.compile(r"^>> Issue: (?P<text>.+)$")
_JEST_TEST = re.compile(r"^\s*● (?P<text>.+)$")
_FOREIGN = re.compile(r"node_modules/|site-packages/|node:internal|/lib/python3")
_NETWORK = re.compile(
    r"ECONNRESET|ETIMEDOUT|EAI_AGAIN|ENOTFOUND|timed out|connection (?:reset|aborted|refused)|failed to fetch|temporary failure|"
    r"name resolution|(?:error|status)\D{0,20}\b(?:429|502|503|504)\b|"
    r"\b(?:429|502|503|504)\b.*(?:error|unavailable|too many|gateway|timeout)",
    re.IGNORECASE,
)
_LAST_WORDS = 30
_ANYTHING = re.compile(r"error|fail|exception|not found|cannot|refused", re.IGNORECASE)


def findings(lines: Iterable[str], *, folder: str = "", directory: str = ".") -> tuple[str, ...]:
    """The first few findings as `path:line message`, in the order of the output; the last lines when none is recognised.

    `folder` is the checkout, which paths are shown relative to; `directory` is where in it the tool ran.
    """
    shown = [line.replace(f"{folder.rstrip('/')}/", "") if folder else line for line in lines]
    inside = "" if directory in ("", ".") else directory.strip("/") + "/"
    found: list[str] = []
    for reader in (_paired, _single):
        found += [line for line in reader(shown, _placing(inside)) if line not in found]
        if found:
            break
    if not found:
        talking = [line.strip() for line in shown if line.strip()]
        found = [line for line in talking if _ANYTHING.search(line)][:MOST_LINES] or talking[-3:]
    return tuple(line[:LONGEST] for line in found[:MOST_LINES])


def tells_of_the_network(lines: Sequence[str]) -> bool:
    """Whether a tool that fetches packages ended because somebody far away did not answer: worth another try."""
    return any(_NETWORK.search(line) for line in lines[-_LAST_WORDS:])


def _placing(inside: str) -> Callable[[str], str]:
    def from_root(place: str) -> str:
        return place if place.startswith(("/", inside)) else inside + place.removeprefix("./")

    return from_root


def _paired(lines: list[str], from_root: Callable[[str], str]) -> list[str]:
    """Findings whose text and place stand on different lines."""
    found: list[str] = []
    about = file = ""
    for line in lines:
        if row := _ESLINT_ROW.match(line):
            found.append(f"{from_root(file)}:{row['row']} {' '.join(row['text'].split())}")
        elif here := _ESLINT_FILE.match(line):
            file = here["file"]
        elif issue := _BANDIT.match(line) or _JEST_TEST.match(line):
            about = issue["text"]
        elif pointer := _POINTER.match(line):
            if about and not _FOREIGN.search(line):
                found.append(f"{from_root(pointer['place'])} {about}")
                about = ""
        elif re.match(r"^[A-Z]{1,4}\d{2,4}\b", line):  # as in `F401 [*] os imported but unused`
            about = line.strip()
    return found


def _single(lines: list[str], from_root: Callable[[str], str]) -> list[str]:
    """Findings that are one line; `FAILED …` lines first place the failure, lines with a place show where."""
    named = [" ".join(line.split()).rstrip("\u2500 ") for line in lines if _FAILED.match(line)]
    placed = []
    for line in lines:
        if _TSC.match(line):
            placed.append(from_root(line.strip()))
        elif (match := _LINE.match(line)) and not _FOREIGN.search(line):
            placed.append(line.strip().replace(match["place"], from_root(match["place"]), 1))
    return [*dict.fromkeys(placed[: MOST_LINES - min(len(named), 2)]), *dict.fromkeys(named)]
