import json
import os
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from delivery.application import Application
from delivery.check import CheckResult
from delivery.check_settings import CheckSettings, ReportKind
from delivery.errors import DeliveryError
from delivery.gate import NOT_SCANNED, CheckWaiver, Gate
from delivery.scan import Severity
from delivery.source import Source
from tasks.checks import run_check, verify
from tasks.source import checkout
from tests.tasks.repository import Repository
from tests.tasks.test_checks import application

TODAY = date(2026, 3, 1)
BAD = {"code": "DL3008", "file": "app.py", "line": 2, "message": "Pin versions", "level": "warning"}
WAIVER = CheckWaiver(check="tool", rule="DL3008", reason="our base image pins them", owner="mia", until=date(2026, 3, 31))


class Scene:
    """A checkout, and a tool that counts how often it ran, writes a report, and ends with an exit code."""

    def __init__(self, source: Source, folder: Path) -> None:
        self.source = source
        self.work_dir = folder / "work"
        self._ran = folder / "ran"

    @property
    def runs(self) -> int:
        return len(self._ran.read_text()) if self._ran.exists() else 0

    def tool(self, report: Any, *, code: int = 1, kind: ReportKind = "hadolint", then: str = "pass", **options: Any) -> CheckSettings:
        text = report if isinstance(report, str) else json.dumps(report)
        script = f"import sys; open({str(self._ran)!r}, 'a').write('x'); open(sys.argv[1], 'w').write({text!r}); {then}; sys.exit({code})"
        return CheckSettings("tool", (sys.executable, "-c", script, "{report}"), directory="api", reads=("api",), report=kind, **options)

    def run(self, check: CheckSettings, *waivers: CheckWaiver, today: date = TODAY, secrets: tuple[SecretStr, ...] = ()) -> CheckResult:
        return run_check(check, self.source, None, work_dir=self.work_dir, gate=Gate(today, waivers), secrets=secrets)

    def verify(self, check: CheckSettings, *waivers: CheckWaiver, today: date = TODAY) -> tuple[CheckResult, ...]:
        declared: Application = application(check)
        return verify(self.source, declared, work_dir=self.work_dir, gate=Gate(today, waivers))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    folder = tmp_path_factory.mktemp("scans")
    repository = Repository(folder / "repository")
    repository.commit("One", api__app_py="import os\n")
    return checkout.plain(str(repository.path), repository.head(), work_dir=folder / "work")


@pytest.fixture
def scene(source: Source, tmp_path: Path) -> Scene:
    return Scene(source, tmp_path)


class TestFindings:
    def test_a_real_tools_finding_stops_the_release_with_its_place_from_the_root(self, scene: Scene) -> None:
        command = ("ruff", "check", "--isolated", "--output-format", "json", "--output-file", "{report}", ".")
        with pytest.raises(DeliveryError) as stopped:
            scene.verify(CheckSettings("ruff", command, directory="api", reads=("api",), report="ruff"))
        assert "ruff failed:\n  low: api/app.py:1:8 F401" in stopped.value.what
        assert "(fix: Remove unused import: `os`)" in stopped.value.what
        assert "ruff.report; run `ruff check" in stopped.value.next

    def test_what_is_below_the_gate_passes_and_is_told(self, scene: Scene) -> None:
        result = scene.run(scene.tool([BAD], fails_at=Severity.HIGH))
        assert result.passed
        assert [finding.place for finding in result.findings] == ["api/app.py:2"]
        assert result.sentence().endswith("1 medium found")

    def test_the_worst_are_shown_first_and_the_rest_is_counted(self, scene: Scene) -> None:
        many = [BAD | {"line": line, "level": "info"} for line in range(1, 8)]
        with pytest.raises(DeliveryError) as stopped:
            scene.verify(scene.tool([*many, BAD | {"level": "error", "code": "DL4000"}]))
        lines = stopped.value.what.splitlines()
        assert lines[1].startswith("  high: api/app.py:2 DL4000")
        assert lines[-1] == "  and 3 more"

    def test_a_command_that_names_no_report_is_read_from_its_standard_output(self, scene: Scene) -> None:
        code = f"import sys; print('a warning', file=sys.stderr); print({json.dumps([BAD])!r}); sys.exit(1)"
        result = scene.run(CheckSettings("tool", (sys.executable, "-c", code), directory="api", reads=("api",), report="hadolint"))
        assert [finding.rule for finding in result.findings] == ["DL3008"]
        assert Path(result.log).read_text() == "a warning\n"

    def test_the_report_is_kept_without_secrets(self, scene: Scene) -> None:
        leaky = scene.tool([BAD | {"message": "found hunter2hunter2"}])
        result = scene.run(leaky, secrets=(SecretStr("hunter2hunter2"),))
        assert "hunter2" not in Path(result.report).read_text()
        assert result.findings[0].message == "found ***"

    def test_its_settings_reach_the_tool(self, scene: Scene) -> None:
        code = f"import os; print(os.environ['LEVEL'] if os.environ['LEVEL'] == '[]' else {json.dumps([BAD])!r})"
        silent = CheckSettings("tool", (sys.executable, "-c", code), reads=("api",), report="hadolint", settings={"LEVEL": "[]"})
        assert scene.run(silent).findings == ()


class TestNotScanned:
    def test_a_missing_tool_stops_the_release_by_name(self, scene: Scene) -> None:
        with pytest.raises(DeliveryError, match="bandit was not scanned: no-such-tool is not installed") as stopped:
            scene.verify(CheckSettings("bandit", ("no-such-tool", "{report}"), reads=("api",), report="bandit"))
        assert '[[waiver]] of "not scanned"' in stopped.value.next

    @pytest.mark.parametrize(
        ("report", "code", "reason"),
        [
            ("", 0, "it wrote no report"),
            ("", 1, "it wrote no report; its last words: no network"),
            ("[", 0, "not JSON"),
            ([], 1, "exit code 1 and 0 findings"),
            ([], 2, "exit code 2"),
            ([BAD], 2, "exit code 2 and 1 findings"),
        ],
    )
    def test_a_tool_that_did_not_come_to_its_end_has_not_scanned(self, scene: Scene, report: Any, code: int, reason: str) -> None:
        words = "print('no network')" if code else "pass"
        result = scene.run(scene.tool(report, code=code, then=words))
        assert not result.passed
        assert result.not_scanned is not None
        assert reason in result.not_scanned

    def test_the_report_of_an_earlier_run_does_not_count(self, scene: Scene) -> None:
        assert scene.run(scene.tool([], code=0)).passed
        silent = CheckSettings("tool", (sys.executable, "-c", "pass", "{report}"), reads=("api",), report="hadolint")
        assert scene.run(silent).not_scanned == "it wrote no report"

    def test_a_tool_that_takes_too_long_has_not_scanned_even_if_a_report_is_there(self, scene: Scene) -> None:
        slow = scene.tool([], code=0, then="sys.stdout.flush(); import time; time.sleep(600)", timeout_seconds=1)
        assert "ended before it was ready" in str(scene.run(slow).not_scanned)


class TestWaivers:
    def test_a_finding_passes_until_the_last_day_and_stops_the_day_after_though_the_answer_is_in_the_cache(self, scene: Scene) -> None:
        excused = scene.run(scene.tool([BAD]), WAIVER, today=date(2026, 3, 31))
        assert excused.passed
        assert "waived until 2026-03-31 by mia: our base image pins them" in excused.sentence()
        assert scene.run(scene.tool([BAD]), WAIVER, today=date(2026, 3, 31)).cached
        assert scene.runs == 1
        assert not scene.run(scene.tool([BAD]), WAIVER, today=date(2026, 4, 1)).passed
        assert scene.runs == 2

    def test_a_waiver_that_ran_out_stops_a_release_that_has_no_finding(self, scene: Scene) -> None:
        with pytest.raises(DeliveryError, match=r"waiver of DL3008 in tool \(mia\) ran out on 2026-03-31") as stopped:
            scene.verify(scene.tool([], code=0), WAIVER, today=date(2026, 4, 1))
        assert "remove the waiver" in stopped.value.next

    def test_what_was_not_scanned_passes_by_its_waiver_says_so_and_is_tried_again(self, scene: Scene) -> None:
        waiver = CheckWaiver(check="tool", rule=NOT_SCANNED, reason="the network is closed", owner="mia", until=date(2026, 3, 31))
        for run in (1, 2):
            (result,) = scene.verify(scene.tool("", code=1), waiver)
            assert result.sentence().startswith("tool was NOT scanned (it wrote no report); not scanned is waived until 2026-03-31 by mia")
            assert scene.runs == run


class TestFreshness:
    def test_what_rests_on_knowledge_from_outside_is_looked_at_again_after_its_hours(self, scene: Scene) -> None:
        check = scene.tool([], code=0, fresh_hours=24)
        scene.run(check)
        (memory,) = (scene.work_dir / "cache" / "checks").glob("*.json")
        almost, over = time.time() - 23 * 3600, time.time() - 25 * 3600
        os.utime(memory, (almost, almost))
        assert scene.run(check).cached
        os.utime(memory, (over, over))
        assert not scene.run(check).cached
        assert scene.runs == 2
