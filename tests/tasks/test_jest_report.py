"""What Jest says about itself becomes the file that machines read of every test tool."""

import json
from xml.etree import ElementTree as ET

import pytest

from tasks.reports.jest import as_junit

TOLD = {
    "numTotalTests": 3,
    "testResults": [
        {
            "name": "/w/tests/page.test.ts",
            "status": "failed",
            "assertionResults": [
                {"ancestorTitles": ["page"], "title": "shows <deals>", "status": "passed", "duration": 12, "failureMessages": []},
                {
                    "ancestorTitles": ["page"],
                    "title": "sorts",
                    "status": "failed",
                    "duration": None,
                    "failureMessages": ["\x1b[31mExpected 1\nReceived 2"],
                },
                {"ancestorTitles": [], "title": "later", "status": "pending", "duration": 0, "failureMessages": []},
            ],
        },
        {"name": "/w/tests/broken.test.ts", "status": "failed", "message": "Cannot find module 'x'", "assertionResults": []},
    ],
}


def test_each_test_has_a_case_and_failures_their_message() -> None:
    root = ET.fromstring(as_junit(json.dumps(TOLD)))  # noqa: S314  what was written above
    assert {key: root.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4",
        "failures": "1",
        "errors": "1",
        "skipped": "1",
    }
    cases = {case.get("name"): case for case in root.iter("testcase")}
    assert (cases["shows <deals>"].get("classname"), cases["shows <deals>"].get("time")) == ("page", "0.012")
    failure = cases["sorts"].find("failure")
    assert failure is not None
    assert (failure.get("message"), failure.text) == ("[31mExpected 1", "[31mExpected 1\nReceived 2")
    error = cases["/w/tests/broken.test.ts"].find("error")
    assert error is not None
    assert error.get("message") == "Cannot find module 'x'"


@pytest.mark.parametrize("text", ["", "<testsuites/>", "[]", "3", '{"testResults": 1}', '{"testResults": [{"name": 1}]}'])
def test_what_is_not_jests_stays_as_it_is(text: str) -> None:
    assert as_junit(text) == text
