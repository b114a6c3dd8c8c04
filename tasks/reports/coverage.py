"""How much of the code its tests run, against what was asked for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from delivery.scan import Finding, NotScanned, Scan, Scanned, Severity
from tasks.reports.document import Unreadable, document_of

RULE = "coverage"
_SHOWN_FILES = 3
LARGEST_COVERAGE = 64 * 1024 * 1024
# What Jest writes when it is given a folder.
_INSIDE_FOLDER = ("coverage-summary.json", "cobertura-coverage.xml")


def read_coverage(place: Path, *, least: float, tool: str) -> Scan:
    """A finding when fewer than `least` percent of the lines were run. Reads the JSON of coverage.py, Jest's json-summary, and Cobertura's
    XML; `place` is the file, or the folder that it lies in. No line of code is not clean.
    """
    file = next((place / name for name in _INSIDE_FOLDER if (place / name).is_file()), place)
    try:
        if file.stat().st_size > LARGEST_COVERAGE:
            return NotScanned(f"its coverage is larger than {LARGEST_COVERAGE // 1024**2} MB")
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return NotScanned("it wrote no coverage")
    return _judged(text, least, tool)


def _judged(text: str, least: float, tool: str) -> Scan:
    try:
        files = list(_of_xml(text) if text.lstrip().startswith("<") else _of_json(document_of(text)))
    except Unreadable as unreadable:
        return NotScanned(str(unreadable).replace("report", "coverage"))
    except (KeyError, TypeError, ValueError, AttributeError, ET.ParseError) as odd:
        return NotScanned(f"its coverage is in no form that is known ({type(odd).__name__})")
    lines = sum(total for _, _, total in files)
    if not lines:
        return NotScanned("the tests were measured on no line of code")
    percent = 100 * sum(run for _, run, _ in files) / lines
    if percent >= least:
        return Scanned()
    worst = sorted(files, key=lambda one: one[1] - one[2])[:_SHOWN_FILES]
    fix = "test " + ", ".join(f"{name} ({total - run} lines)" for name, run, total in worst if total > run)
    return Scanned(
        (Finding(tool, RULE, Severity.HIGH, "all files", f"{percent:.1f} % of the lines are tested, expected {least:g} %", fix),)
    )


def _of_json(document: Any) -> Iterator[tuple[str, int, int]]:
    """(file, lines that were run, lines); coverage.py's, else Jest's."""
    if "meta" in document:
        for name, file in document["files"].items():
            summary = file["summary"]
            yield str(name), int(summary["covered_lines"]), int(summary["num_statements"])
        return
    if "total" not in document:
        raise KeyError("total")
    for name, file in document.items():
        if name != "total":
            yield str(name), int(file["lines"]["covered"]), int(file["lines"]["total"])


def _of_xml(text: str) -> Iterator[tuple[str, int, int]]:
    # A document that declares entities could make the parser grow without end; no tool writes one.
    if "<!ENTITY" in text:
        raise ValueError("entities")
    root = ET.fromstring(text)  # noqa: S314  without entities there is nothing to expand
    if root.tag != "coverage":
        raise ValueError(root.tag)
    for one in root.iter("class"):
        hits = [int(line.attrib["hits"]) for line in one.iter("line")]
        yield one.attrib["filename"], sum(hit > 0 for hit in hits), len(hits)
