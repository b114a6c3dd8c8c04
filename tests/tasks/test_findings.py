"""The outputs are what the tools of the example really print, shortened."""

import pytest

from tasks.findings import MOST_LINES, findings, tells_of_the_network

RUFF = """\
F401 [*] `decimal` imported but unused
 --> dealbrain/prices.py:3:8
  |
1 | \"\"\"Prices.\"\"\"
  |
3 | import decimal
  |        ^^^^^^^
help: Remove unused import: `decimal`

Found 1 error.
"""
PYTEST = """\
=================================== FAILURES ===================================
______________________ test_a_listing_shows_its_discount _______________________
>       assert client.get("/api/listings/1").json()["discount_percent"] == 17
E       assert 16 == 17
tests/test_listings.py:31: AssertionError
=========================== short test summary info ============================
FAILED tests/test_listings.py::test_a_listing_shows_its_discount - assert 16 == 17
1 failed, 38 passed in 1.16s
"""
JEST = """\
FAIL tests/money.test.ts
  \u25cf 5 cents are $0.05

    expect(received).toBe(expected) // Object.is equality

      at node_modules/jest-circus/build/run.js:62:5
      at Object.<anonymous> (tests/money.test.ts:10:24)

Tests:       1 failed, 22 passed, 23 total
"""
ESLINT = """\

/checkouts/abc/web/src/page.ts
   3:7   error    'unused' is assigned a value but never used  @typescript-eslint/no-unused-vars
  12:1   warning  Unexpected console statement                 no-console

\u2716 2 problems (1 error, 1 warning)
"""
TSC = "src/money.ts(3,7): error TS2322: Type 'string' is not assignable to type 'number'.\n"
BANDIT = """\
>> Issue: [B602:subprocess_popen_with_shell_equals_true] subprocess call with shell=True identified.
   Severity: High   Confidence: High
   Location: dealbrain/jobs.py:14:4
"""
BLACK = "would reformat /checkouts/abc/api/dealbrain/app.py\n\nOh no!\n1 file would be reformatted.\n"
ISORT = "ERROR: /checkouts/abc/api/dealbrain/app.py Imports are incorrectly sorted and/or formatted.\n"
PLAYWRIGHT = """\
Running 3 tests using 1 worker
  1) [critical] \u203a e2e/critical.spec.ts:3:1 \u203a a visitor adds a listing \u2500\u2500\u2500\u2500
    Error: Timed out 5000ms waiting for expect(locator).toBeVisible()
  1 failed
"""


@pytest.mark.parametrize(
    ("tool", "output", "directory", "expected"),
    [
        ("ruff", RUFF, "api", "api/dealbrain/prices.py:3:8 F401 [*] `decimal` imported but unused"),
        ("pytest", PYTEST, "api", "api/tests/test_listings.py:31: AssertionError"),
        ("pytest", PYTEST, "api", "FAILED tests/test_listings.py::test_a_listing_shows_its_discount - assert 16 == 17"),
        ("jest", JEST, "web", "web/tests/money.test.ts:10:24 5 cents are $0.05"),
        ("eslint", ESLINT, "web", "web/src/page.ts:3:7 'unused' is assigned a value but never used @typescript-eslint/no-unused-vars"),
        ("tsc", TSC, "web", "web/src/money.ts(3,7): error TS2322: Type 'string' is not assignable to type 'number'."),
        (
            "bandit",
            BANDIT,
            "api",
            "api/dealbrain/jobs.py:14:4 [B602:subprocess_popen_with_shell_equals_true] subprocess call with shell=True identified.",
        ),
        ("black", BLACK, "api", "would reformat api/dealbrain/app.py"),
        ("isort", ISORT, "api", "ERROR: api/dealbrain/app.py Imports are incorrectly sorted and/or formatted."),
        ("playwright", PLAYWRIGHT, "web", "1) [critical] \u203a e2e/critical.spec.ts:3:1 \u203a a visitor adds a listing"),
    ],
)
def test_a_finding_names_the_place_from_the_root_of_the_repository(tool: str, output: str, directory: str, expected: str) -> None:
    assert expected in findings(output.splitlines(), folder="/checkouts/abc", directory=directory), tool


def test_warnings_and_frames_of_other_peoples_code_are_no_findings() -> None:
    shown = "\n".join([*findings(ESLINT.splitlines(), directory="web"), *findings(JEST.splitlines(), directory="web")])
    assert "no-console" not in shown
    assert "node_modules" not in shown


def test_only_the_first_few_are_shown() -> None:
    lines = [f"src/a.py:{number}: broken" for number in range(100)]
    assert findings(lines) == tuple(lines[:MOST_LINES])


def test_an_output_that_is_not_understood_gives_the_lines_that_speak_of_errors() -> None:
    assert findings(["starting", "fatal error: out of tokens", "bye"]) == ("fatal error: out of tokens",)


def test_an_output_without_any_hint_gives_its_last_lines() -> None:
    assert findings(["one", "two", "", "three", "four"]) == ("two", "three", "four")
    assert findings([]) == ()


@pytest.mark.parametrize(
    ("line", "passing"),
    [
        ("npm error code ECONNRESET", True),
        ("error: Failed to fetch: `https://index/simple/ruff/`", True),
        ("ERROR: HTTP error 503 while getting package", True),
        ("Temporary failure in name resolution", True),
        ("ERROR: No matching distribution found for ruff==99", False),
        ("npm error 404 Not Found", False),
        ("added 503 packages in 11s", False),
    ],
)
def test_what_tells_of_the_network_is_worth_another_try(line: str, *, passing: bool) -> None:
    assert tells_of_the_network(["some line", line]) is passing
