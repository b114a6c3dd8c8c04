import base64
import xml.etree.ElementTree as ET

import pytest

from tasks.plot import BLUE, GREEN, Chart, Line

SVG = "{http://www.w3.org/2000/svg}"


def drawn(chart: Chart) -> ET.Element:
    return ET.fromstring(chart.svg())  # noqa: S314  what we have written ourselves


def words(chart: Chart) -> list[str]:
    return [text.text or "" for text in drawn(chart).iter(f"{SVG}text")]


def curves(chart: Chart) -> list[list[tuple[float, float]]]:
    lines = [line.attrib["points"].split() for line in drawn(chart).iter(f"{SVG}polyline")]
    return [[(float(point.split(",")[0]), float(point.split(",")[1])) for point in line] for line in lines]


def test_a_larger_value_is_drawn_higher_and_a_later_one_further_right() -> None:
    [[first, second]] = curves(Chart("errors", [Line("v1", GREEN, [(0, 1.0), (10, 8.0)])], unit=" %"))
    assert second[0] > first[0]
    assert second[1] < first[1]


def test_a_gap_parts_the_curve() -> None:
    points = [(0, 1.0), (1, 2.0), (2, None), (3, 2.0), (4, 1.0)]
    assert [len(curve) for curve in curves(Chart("errors", [Line("v1", GREEN, points)]))] == [2, 2]


def test_a_share_holds_until_the_next_one() -> None:
    [curve] = curves(Chart("share", [Line("v1", GREEN, [(0, 10), (60, 50)], steps=True)]))
    assert [y for _, y in curve][:2] == [curve[0][1]] * 2
    assert curve[1][0] == curve[2][0]


def test_both_versions_and_the_limit_are_named() -> None:
    lines = [Line("v1.2.0", GREEN, [(0, 1), (9, 2)]), Line("v1.1.0", BLUE, [(0, 0), (9, 0)])]
    found = words(Chart("errors", lines, unit=" %", limit=5))
    assert {"errors", "v1.2.0", "v1.1.0", "limit 5 %", "0 s", "9 s"} <= {*found}


def test_evidence_is_drawn_by_its_orders_of_magnitude() -> None:
    [curve] = curves(Chart("evidence", [Line("odds", GREEN, [(0, 1), (1, 100), (2, 10_000)])], logarithmic=True))
    heights = [y for _, y in curve]
    assert abs((heights[0] - heights[1]) - (heights[1] - heights[2])) < 0.2


def test_nothing_known_is_said() -> None:
    assert "nothing is known" in words(Chart("p95", [Line("v1", GREEN, [(0, None)])]))


def test_one_point_alone_and_a_flat_line_are_no_division_by_zero() -> None:
    assert curves(Chart("errors", [Line("v1", GREEN, [(5, 0.0)])]))
    assert curves(Chart("odds", [Line("v1", GREEN, [(0, 1.0), (1, 1.0)])], logarithmic=True))


def test_foreign_text_stays_text() -> None:
    chart = Chart("<script>", [Line("<b>&'", GREEN, [(0, 1)])])
    assert {"<script>", "<b>&'"} <= {*words(chart)}


def test_markdown_holds_the_whole_image() -> None:
    chart = Chart("errors", [Line("v1", GREEN, [(0, 1)])])
    head, _, data = chart.markdown().partition("base64,")
    assert head == "![errors](data:image/svg+xml;"
    assert base64.b64decode(data.rstrip(")")).decode() == chart.svg()


def test_a_value_between_two_gaps_is_a_dot() -> None:
    chart = Chart("rate", [Line("", BLUE, [(0, None), (1, 4.0), (2, None)])], ends=("2 Mar", "23 Mar"))
    [dot] = drawn(chart).iter(f"{SVG}circle")
    assert (float(dot.attrib["cx"]), curves(chart)) == ((56 + 640 - 12) / 2, [[(float(dot.attrib["cx"]), float(dot.attrib["cy"]))]])


def test_the_ends_may_have_names_and_unknown_ends_keep_their_place() -> None:
    chart = Chart("rate", [Line("", BLUE, [(0, None), (1, 4.0), (2, 5.0)])], ends=("2 Mar", "23 Mar"))
    assert {"2 Mar", "23 Mar"} <= {*words(chart)}
    [[first, last]] = curves(chart)
    assert first[0] == (56 + last[0]) / 2


def test_a_reader_who_does_not_see_it_hears_the_values() -> None:
    chart = Chart("rate", [Line("", BLUE, [(0, 4.0)])])
    assert chart.markdown("rate: [4]").startswith("![rate: (4)](data:image/svg+xml;base64,")


@pytest.mark.parametrize(
    ("value", "label"),
    [(1_178_640.0, "1.18M:1"), (78_640.0, "78.6k:1"), (4_200.0, "4,200:1"), (3e12, "3e+12:1"), (999_999_999.0, "1e+09:1")],
)
def test_a_large_value_fits_the_margin(value: float, label: str) -> None:
    svg = Chart("evidence", [Line("", BLUE, [(0.0, 1.0), (1.0, value)])], unit=":1", logarithmic=True).svg()
    assert f">{label}<" in svg
    assert len(label) <= 8


def test_steps_are_bands_with_names_and_time_begins_with_the_rollout() -> None:
    chart = Chart("errors", [Line("v1", GREEN, [(30, 1.0), (40, 1.0)])], unit=" %", bands=[(30, 40, "10 %")])
    assert {"10 %", "0 s", "40 s"} <= {*words(chart)}
    [_, band] = list(drawn(chart).iter(f"{SVG}rect"))
    [[first, last]] = curves(chart)
    assert float(band.attrib["x"]) == pytest.approx(first[0], abs=0.1)
    assert float(band.attrib["width"]) == pytest.approx(last[0] - first[0], abs=0.2)


def test_a_curve_of_few_values_says_its_last_one() -> None:
    assert "7.5 %" in words(Chart("errors", [Line("v1", GREEN, [(0, 1.0), (9, 7.5)]), Line("v0", BLUE, [(0, 9.0), (9, 9.0)])], unit=" %"))
    assert "7.5 %" not in words(Chart("errors", [Line("v1", GREEN, [(0, 1.0), (5, 9.0), (9, 7.5)])], unit=" %"))
