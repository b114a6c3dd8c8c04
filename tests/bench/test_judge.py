"""A minute of `make bench-judge`: fewer canaries, the same claims. Bounds leave room for chance at one in a thousand."""

import json
import subprocess
import sys
from math import inf
from pathlib import Path

import numpy as np
import pytest

from bench.canaries import BASE, World, draw, generator, healthy, oracle_bound, regressed
from bench.judge import (
    CONTEXT,
    REFERENCE,
    calibrated_figures,
    cells,
    claims,
    judged,
    leak_figures,
    regression_figures,
    sustained_figures,
    trace_figures,
)
from bench.rivals import flagger, kayenta_at, kayenta_peeking, quantile_ms
from bench.traces import NAMES
from delivery.judge import Judge

slow = pytest.mark.processes  # computes for seconds; `make test` has the time
HOME = Path(__file__).resolve().parents[2]
SOME = 200


@slow
@pytest.mark.parametrize(
    "cell",
    [
        "fa/iid/0.001/100/0.5",
        "fa/iid/0.01/10/0.1",
        "fa/diurnal/0.002/100/0.5",
        "fa/shared_burst/0.002/100/0.5",
        "fa/noise_10_3/0.002/1000/0.1",
    ],
)
def test_a_healthy_release_is_hardly_ever_rolled_back(cell: str):
    """Seven of 200 would be one in a thousand at a true rate of 1 %."""
    alarms, promotions = judged(healthy(cell, SOME), Judge(CONTEXT))
    assert np.isfinite(alarms).sum() <= 7
    assert np.isfinite(promotions).mean() > 0.5


@slow
@pytest.mark.parametrize("cell", ["err/(0.001, 0.005)/0.5/100", "err/(0.01, 0.05)/0.1/10", "lat/1.1/0.5/100", "lat/1.25/0.1/10"])
def test_a_regression_is_found_within_1_25_of_the_reference(cell: str):
    found = regression_figures(cell, SOME)
    assert found["within"]
    assert found["detected"] == 1


@slow
@pytest.mark.parametrize("cell", ["err/(0.005, 0.01)/0.5/10", "err/(0.01, 0.02)/0.1/10", "lat/1.1/0.5/10"])
def test_at_ten_requests_a_second_it_knows_sooner_than_kayenta_that_peeks(cell: str):
    drawn = regressed(cell, 100)
    alarms, _ = judged(drawn, Judge(CONTEXT))
    assert np.median(alarms) <= np.median(kayenta_peeking(drawn))
    assert np.isfinite(alarms).mean() >= np.isfinite(kayenta_peeking(drawn)).mean() - 0.02


@slow
@pytest.mark.parametrize("name", NAMES)
def test_an_adversarial_trace_ends_as_wanted(name: str):
    assert trace_figures(name, 25)["as_wanted"]


@slow
def test_a_slow_leak_is_held_by_forecast_and_goes_back_by_the_trigger():
    assert leak_figures(25)["as_wanted"]


@slow
def test_clumps_are_learnt_from_an_a_a_comparison():
    found = calibrated_figures("aa/clump10/0.002/100/0.5", 60)
    assert found["false_without"] > 0.9
    assert found["false_with"] <= 0.1
    assert found["detected"] == 1


def test_a_sustained_case_that_fires_at_another_time_is_named(tmp_path: Path):
    rule = {"metric": "error_rate", "threshold": 0.05, "for_s": 20, "max_gap_s": 30}
    samples = [[0, 0.1], [10, 0.1], [20, 0.1]]
    cases = [{"id": number, "rule": rule, "samples": samples, "expected_fire_t": at} for number, at in enumerate((20, 10))]
    file = tmp_path / "cases.json"
    file.write_text(json.dumps({"cases": cases}))
    assert sustained_figures(file) == {"cases": 2, "wrong": [1]}


def test_a_cell_is_reproducible_alone():
    """The published generator: anyone with this version of numpy gets these very canaries."""
    drawn = regressed("err/(0.01, 0.02)/0.1/10", 500)
    again = regressed("err/(0.01, 0.02)/0.1/10", 500)
    assert (drawn.h_g == again.h_g).all()
    assert [int(part.sum()) for part in (drawn.n_g, drawn.n_b, drawn.x_g, drawn.x_b)] == [1801101, 16198647, 36028, 162562]
    assert (drawn.h_g.sum(axis=-1) == drawn.n_g).all()


def test_the_protocol_has_all_its_cells():
    assert len(cells()) == len(set(cells())) == 3 * len(REFERENCE) + 6 + 15 + 3 + len(NAMES) + 2


def test_the_oracle_needs_what_the_reference_says():
    assert oracle_bound("err/(0.001, 0.005)/0.1/10") == pytest.approx(14_000, rel=0.05)
    assert oracle_bound("lat/1.1/0.5/10") == pytest.approx(1_700, rel=0.05)


def test_quantiles_are_linear_within_a_bucket():
    histogram = np.zeros(len(BASE))
    histogram[4] = 100  # between 50 and 100 ms
    assert quantile_ms(histogram, 0.5) == 75
    histogram[-1] = 900
    assert quantile_ms(histogram, 0.95) == 10_000


def test_the_rivals_say_nothing_of_identical_colours_and_speak_at_once_of_a_disaster():
    alike = draw(generator("a test"), World(0.0, 0.0), rps=100, weight=0.5, canaries=3)
    bad = draw(generator("a test"), World(0.5, 0.001), rps=100, weight=0.5, canaries=3)
    assert set(flagger(alike)) == {inf}
    assert set(flagger(bad)) == set(kayenta_peeking(bad)) == {5.0}
    assert set(kayenta_at(bad, 30)) == {30.0}


def test_a_claim_without_a_cell_is_neither_true_nor_false():
    assert set(claims({}).values()) == {None}
    assert claims({"sustained": {"wrong": [3]}})["4_every_sustained_case"] is False


@slow
def test_the_last_line_is_one_json_object():
    asked = [sys.executable, "-m", "bench.judge", "--workers", "1", "--cells", "(0.01, 0.05)/0.5/1000", "--canaries", "5"]
    done = subprocess.run(asked, cwd=HOME, capture_output=True, text=True, check=True, timeout=60)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["cells"]["err/(0.01, 0.05)/0.5/1000"]["median_look"] == 1
    assert found["claims"]["2_detection_within_1.25_of_the_reference"] is True
