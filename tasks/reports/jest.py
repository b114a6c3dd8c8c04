"""Jest's own JSON as JUnit: Jest writes no JUnit file without a package that few projects have."""

import json
import re
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring


def as_junit(text: str) -> str:
    """JUnit XML for what `jest --json` wrote; any other text as it is."""
    try:
        document: Any = json.loads(text)
        return _converted(document)
    except (ValueError, LookupError, TypeError, AttributeError):
        return text


def _converted(document: Any) -> str:
    root = Element("testsuites", name="jest")
    for file in document["testResults"]:
        tests = file["assertionResults"]
        suite = SubElement(root, "testsuite", name=_plain(file["name"]))
        for test in tests:
            seconds = f"{(test.get('duration') or 0) / 1000:.3f}"
            case = SubElement(
                suite, "testcase", classname=_plain(" ".join(test["ancestorTitles"])), name=_plain(test["title"]), time=seconds
            )
            if test["status"] == "failed":
                _say(case, "failure", "\n".join(test.get("failureMessages") or ()))
            elif test["status"] != "passed":
                SubElement(case, "skipped")
        if not tests and file["status"] == "failed":  # the file itself could not be run
            _say(SubElement(suite, "testcase", classname="", name=_plain(file["name"]), time="0"), "error", file.get("message") or "")
        _count(suite)
    _count(root)
    return tostring(root, encoding="unicode")


def _count(element: Element) -> None:
    for name, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(name, str(sum(1 for _ in element.iter(tag))))


def _say(case: Element, kind: str, message: str) -> None:
    text = _plain(message)
    SubElement(case, kind, message=text.partition("\n")[0][:300]).text = text


# The characters that XML cannot hold.
_UNTOLD = re.compile("[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]")


def _plain(text: str) -> str:
    return _UNTOLD.sub("", text)
