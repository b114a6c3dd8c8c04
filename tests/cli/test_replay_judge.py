import io
import json
import math
from pathlib import Path
from typing import Any

import pytest

from cli.main import run

BASE = [0.1, 0.4, 0.4, 0.09, 0.01]


def context(**changed: Any) -> dict[str, Any]:
    known = {"look_seconds": 60, "looks_planned": 60, "bounds": [0.05, 0.1, 0.25, 1.0], "base": BASE, "alpha": 0.01}
    return {"context": known | {"promotion_enabled": True, "aa": None} | changed}


def look(number: int, x_g: int = 6, *, n: int = 3000, **changed: Any) -> dict[str, Any]:
    histogram = [round(n * share) for share in BASE]
    counts = {"n_g": n, "n_b": n, "x_g": x_g, "x_b": round(n * 0.002), "h_g": histogram, "h_b": histogram}
    return {"look": number, "seconds": 60, **counts, "groups": {}, "gauges": {}} | changed


ALIKE = [look(number) for number in range(1, 7)]


def written(tmp_path: Path, *lines: object) -> str:
    file = tmp_path / "canaries.jsonl"
    file.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return str(file)


def replayed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert run(["replay", "judge", *arguments]) == 0

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in capsys.readouterr().out.splitlines()]


def verdicts(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    return [line["verdict"] for line in replayed(capsys, *arguments)]


def test_each_look_gives_one_line_with_verdict_evidence_and_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    lines = replayed(capsys, written(tmp_path, context(), *ALIKE))
    assert [line["verdict"] for line in lines] == ["CONTINUE"] * 5 + ["PROMOTE"]
    assert all(set(line) == {"verdict", "evidence", "reason"} for line in lines)
    assert all(isinstance(line["evidence"], float) and line["reason"] for line in lines)


def test_after_a_final_verdict_nothing_is_printed_of_this_canary(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    canaries = [context(), look(1, 60), look(2), look(3), context(), look(1), look(2)]
    assert verdicts(capsys, written(tmp_path, *canaries)) == ["ROLLBACK", "CONTINUE", "CONTINUE"]


def test_keep_going_shows_what_would_have_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = written(tmp_path, context(), *ALIKE, look(7), look(8, 90), look(9))
    assert verdicts(capsys, file, "--keep-going")[5:] == ["PROMOTE", "PROMOTE", "ROLLBACK", "ROLLBACK"]


def test_a_verdict_does_not_depend_on_later_looks(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    several = [*ALIKE, look(7, 30), look(8, 40)]
    whole = replayed(capsys, written(tmp_path, context(), *several), "--keep-going")
    for number in range(1, len(several)):
        assert replayed(capsys, written(tmp_path, context(), *several[:number]), "--keep-going") == whole[:number]


def test_overwhelming_evidence_is_a_finite_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    many = [look(number, 10**7, n=10**7) for number in range(1, 40)]
    lines = replayed(capsys, written(tmp_path, context(), *many), "--keep-going")
    assert all(math.isfinite(line["evidence"]) for line in lines)
    assert lines[-1]["evidence"] > 1e200


def test_standard_input_is_read_for_a_dash(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(map(json.dumps, [context(), look(1, 60)]))))
    assert verdicts(capsys, "-") == ["ROLLBACK"]


def test_without_promotion_nobody_is_promoted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    looks = [look(number) for number in range(1, 61)]
    found = verdicts(capsys, written(tmp_path, context(promotion_enabled=False), *looks))
    assert found == ["CONTINUE"] * 59 + ["INCONCLUSIVE"]


def test_a_smaller_alpha_wants_more_evidence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    worse = [look(number, 35) for number in (1, 2)]
    assert verdicts(capsys, written(tmp_path, context(alpha=0.05), *worse))[0] == "ROLLBACK"
    assert verdicts(capsys, written(tmp_path, context(alpha=1e-9), *worse))[0] == "CONTINUE"


def test_an_a_a_comparison_tells_clumps_from_regressions(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    clumped = [{"n_1": 1500, "n_2": 1500, "x_1": 10 * (n % 2), "x_2": 10 * (1 - n % 2)} for n in range(60)]
    calm = [{"n_1": 1500, "n_2": 1500, "x_1": 5, "x_2": 5}] * 60
    assert verdicts(capsys, written(tmp_path, context(aa=calm), look(1, 40))) == ["ROLLBACK"]
    assert verdicts(capsys, written(tmp_path, context(aa=clumped), look(1, 40))) == ["CONTINUE"]


def test_a_sick_endpoint_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    groups = {"GET /": {"n_g": 2970, "n_b": 2970, "x_g": 6, "x_b": 6}, "POST /listings": {"n_g": 30, "n_b": 30, "x_g": 15, "x_b": 0}}
    lines = replayed(capsys, written(tmp_path, context(), look(1, 21, groups=groups), look(2, 21, groups=groups)))
    assert lines[-1]["verdict"] == "ROLLBACK"
    assert lines[-1]["reason"].startswith("green answers 50 % errors on POST /listings, blue 0 %; ")


@pytest.mark.parametrize("unit", [1, 100])
def test_a_leak_is_held_by_forecast_and_goes_back_by_the_sustained_trigger(unit: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Gauges are shares or percentages. The limit of 85 % is passed at look 63, and five minutes later it is looks, not luck."""
    gauges = [{"memory_g": unit * (0.6 + 0.004 * number), "memory_b": unit * 0.6} for number in range(1, 71)]
    looks = [look(number, gauges=gauge) for number, gauge in enumerate(gauges, 1)]
    lines = replayed(capsys, written(tmp_path, context(looks_planned=90, promotion_enabled=False), *looks))
    assert [line["verdict"] for line in lines] == ["CONTINUE"] * 14 + ["HOLD"] * 53 + ["ROLLBACK"]
    assert len(lines) == 68
    assert "memory 87.2 % is above 85 % for 300 s" in lines[-1]["reason"]


def test_the_next_canary_does_not_inherit_the_memory_of_the_last_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    full = [look(number, gauges={"memory_g": 0.9, "memory_b": 0.9}) for number in range(1, 6)]
    assert verdicts(capsys, written(tmp_path, context(), *full, context(), *full)) == ["CONTINUE"] * 10


def test_notes_of_ones_own_and_blank_lines_are_not_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = written(tmp_path, context(), "", look(1, 60, expected="ROLLBACK", note={"by": "me"}), "")
    assert verdicts(capsys, file) == ["ROLLBACK"]


def without(document: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != key}


REFUSED: list[tuple[list[object], str]] = [
    ([], "got no canary, expected a context line"),
    (["{"], ":1:2 is not JSON"),
    (["[]"], ":1: got [], expected a context or a look"),
    ([look(1)], ":1: got a look, expected a context first"),
    ([{"context": 7}], ":1.context: got 7, expected an object"),
    ([context(base=[0.5, 0.5])], ":1.context.base: got 2 shares, expected 5"),
    ([context(base=[1, 1, 1, 1, 1])], ":1.context.base: got shares that sum to 5"),
    ([context(bounds=[0.1, 0.05, 1, 2])], ":1.context.bounds: got [0.1, 0.05, 1.0, 2.0], expected two or more"),
    ([context(bounds="all")], ':1.context.bounds: got "all", expected a list'),
    ([context(look_seconds=0)], ":1.context.look_seconds: got 0, expected more than 0"),
    ([context(look_seconds=math.nan)], ":1.context.look_seconds: got NaN, expected a number"),
    ([context(looks_planned=0)], ":1.context.looks_planned: got 0, expected 1 or more"),
    ([context(looks_planned=2.5)], ":1.context.looks_planned: got 2.5, expected a whole number"),
    ([context(alpha=1)], ":1.context.alpha: got 1.0, expected a number between 0 and 1"),
    ([context(promotion_enabled="no")], ':1.context.promotion_enabled: got "no", expected true or false'),
    ([context(promotion_enable=False)], ':1.context: got the key "promotion_enable", expected "promotion_enabled"'),
    ([context(aa={})], ":1.context.aa: got {}, expected null or a list"),
    ([context(aa=[{"n_1": 1, "n_2": 1, "x_1": 2, "x_2": 0}])], ":1.context.aa[0].x_1: got 2, expected at most the 1 requests"),
    ([context(), without(look(1), "n_g")], ":2: got no n_g, expected one"),
    ([context(), look(1, -1)], ":2.x_g: got -1, expected a whole number, 0 or more"),
    ([context(), look(1, 3001)], ":2.x_g: got 3001, expected at most the 3000 requests"),
    ([context(), look(1, h_g=[1, 2])], ":2.h_g: got 2 buckets, expected 5 as in the context"),
    ([context(), look(1, h_b=[1, 2, 3, 4, "5"])], ':2.h_b[4]: got "5", expected a whole number'),
    ([context(), look(1), look(1)], ":3.look: got 1, expected more than 1"),
    ([context(), look(0)], ":2.look: got 0, expected more than 0"),
    ([context(), look(1, seconds=0)], ":2.seconds: got 0.0, expected more than 0"),
    ([context(), look(1, groups=[1])], ":2.groups: got [1], expected an object of groups"),
    ([context(), look(1, groups={"a": {"n_g": 1}})], ":2.groups.a: got no n_b"),
    ([context(), look(1, group={})], ':2: got the key "group", expected "groups"'),
    ([context(), look(1, gauges={"memory_g": -1, "memory_b": 0.5})], ":2.gauges.memory_g: got -1, expected 0 or more"),
    ([context(), look(1), "nonsense"], ":3:1 is not JSON"),
]


@pytest.mark.parametrize(("lines", "told"), REFUSED, ids=[told for _, told in REFUSED])
def test_a_malformed_file_is_refused_before_anything_is_printed(
    lines: list[object], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = written(tmp_path, *lines)
    assert run(["replay", "judge", file]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    what, next_step = err.splitlines()
    assert file in what
    assert told in what
    assert next_step.startswith("Next: ")


def test_a_missing_file_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["replay", "judge", str(tmp_path / "none.jsonl")]) == 2
    assert str(tmp_path / "none.jsonl") in capsys.readouterr().err
