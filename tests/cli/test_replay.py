import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.main import run


def case(samples: list[list[float | None]], *, identity: int | str = 1, **rule: Any) -> dict[str, Any]:
    held = {"metric": "error_rate", "threshold": 0.05, "for_s": 30, "op": ">", "max_gap_s": 45}
    return {"id": identity, "name": "a case", "rule": held | rule, "samples": samples}


def written(tmp_path: Path, document: object) -> str:
    file = tmp_path / "cases.json"
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    return str(file)


def replayed(capsys: pytest.CaptureFixture[str], file: str) -> list[dict[str, Any]]:
    assert run(["replay", "triggers", file]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


BREACH = [[0, 0.06], [15, 0.06], [30, 0.06], [45, 0.06]]


def test_each_case_gives_one_line_with_its_id_and_the_time_it_fires(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    cases = [case(BREACH), case([[0, 0.05], [60, 0.05]], identity="never"), case([[0.0, 0.06], [30.5, 0.06]], identity=3)]
    assert replayed(capsys, written(tmp_path, {"cases": cases})) == [
        {"id": 1, "fires_at": 30},
        {"id": "never", "fires_at": None},
        {"id": 3, "fires_at": 30.5},
    ]


def test_whole_seconds_print_as_integers(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["replay", "triggers", written(tmp_path, {"cases": [case(BREACH)]})]) == 0
    assert capsys.readouterr().out == '{"id": 1, "fires_at": 30}\n'


def test_unknown_values_neither_break_nor_recover(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    bridged = case([[0, 0.06], [15, None], [30, 0.06]], identity="null")
    not_a_number = case([[0, 0.06], [15, float("nan")], [30, 0.06]], identity="nan")
    assert [line["fires_at"] for line in replayed(capsys, written(tmp_path, {"cases": [bridged, not_a_number]}))] == [30, 30]


def test_a_gap_longer_than_the_rule_allows_starts_the_time_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    gap = [[0, 0.06], [60, 0.06], [75, 0.06], [90, 0.06]]
    cases = [case(gap, identity="default gap"), case(gap, identity="longer gap", max_gap_s=60)]
    assert [line["fires_at"] for line in replayed(capsys, written(tmp_path, {"cases": cases}))] == [90, 60]


@given(lies=st.dictionaries(st.sampled_from(["expected_fire_t", "expected", "prometheus_for_fire_t"]), st.integers() | st.none()))
def test_what_somebody_expects_is_not_read(lies: dict[str, int | None], tmp_path_factory: pytest.TempPathFactory):
    honest, lying = case(BREACH), case(BREACH) | lies
    file = written(tmp_path_factory.mktemp("cases"), {"cases": [honest, lying]})
    with pytest.MonkeyPatch.context() as patched:
        out = io.StringIO()
        patched.setattr("sys.stdout", out)
        assert run(["replay", "triggers", file]) == 0
    assert len(set(out.getvalue().splitlines())) == 1


def test_standard_input_is_read_for_a_dash(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"cases": [case(BREACH)]})))
    assert replayed(capsys, "-") == [{"id": 1, "fires_at": 30}]


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ("{", "is not JSON"),
        ("[]", "got no list under the key cases"),
        ({"cases": {}}, "got no list under the key cases"),
        ({"cases": [7]}, "cases[0]: got 7, expected an object"),
        ({"cases": [{"id": 1}]}, "cases[0]: got no rule"),
        ({"cases": [case(BREACH, metric="humour")]}, 'cases[0].rule.metric: got "humour", expected one of error_rate'),
        ({"cases": [case(BREACH, op="<")]}, 'cases[0].rule.op: got "<"'),
        ({"cases": [case(BREACH, threshold="high")]}, 'cases[0].rule.threshold: got "high", expected a number'),
        ({"cases": [case(BREACH), case([[0]])]}, "cases[1].samples[0]: got [0], expected [seconds, value or null]"),  # type: ignore[list-item]
        ({"cases": [case([[0, True]])]}, "cases[0].samples[0]: got true, expected a number"),
    ],
)
def test_a_malformed_file_is_refused_before_anything_is_printed(
    document: object, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = written(tmp_path, document)
    assert run(["replay", "triggers", file]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    what, next_step = err.splitlines()
    assert file in what
    assert told in what
    assert next_step.startswith("Next: ")


def test_a_missing_file_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["replay", "triggers", str(tmp_path / "none.json")]) == 2
    assert str(tmp_path / "none.json") in capsys.readouterr().err
