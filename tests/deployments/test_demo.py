"""What the demo promises is held against what was seen; a promise that is not kept is a problem by name."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from delivery.errors import DeliveryError
from delivery.journal import Ending
from deployments.demo.page import Seen, look_at
from deployments.demo.story import COUNTED, PLOTTED, Story, _problems
from deployments.demo.traffic import Tally
from tasks.report_page import keep_page
from tests.tasks.test_rollout import GREEN, World

ENDINGS = {"1.0.0": Ending.LIVE, "1.1.0": Ending.LIVE, "1.2.0": Ending.ROLLED_BACK}
TALLY = Tally(900, 0, 7, 90, 0, 0, 9, 9, 4.0, 20.0)
METRICS = {key: f"1 {counted}" for key, counted in COUNTED.items()}


def problems(metrics: Mapping[tuple[str, str], str] = METRICS, **changes: object) -> tuple[str, ...]:
    seen: dict[str, object] = {"endings": ENDINGS, "tally": TALLY, "live": "1.1.0", "same_images": True, "soon": True, "unseen": ()}
    return _problems(**{**seen, **changes}, metrics=metrics)  # type: ignore[arg-type]


def test_a_demo_that_kept_every_promise_has_no_problem() -> None:
    assert problems() == ()


@pytest.mark.parametrize("key", COUNTED)
def test_a_figure_of_the_metrics_table_that_is_not_as_counted_by_hand_is_a_problem(key: tuple[str, str]) -> None:
    environment, name = key
    (wrong,) = problems({**METRICS, key: "33.4 % (1 of 4)"})
    assert f"{name.lower()} '33.4 % (1 of 4)' for {environment}" in wrong
    (missing,) = problems({one: value for one, value in METRICS.items() if one != key})
    assert f"for {environment}, expected {COUNTED[key]!r}" in missing


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"endings": {**ENDINGS, "1.2.0": Ending.LIVE}}, "1.2.0 ended LIVE"),
        ({"live": "1.2.0"}, "production answers 1.2.0"),
        ({"same_images": False}, "same images"),
        ({"soon": False}, "no sooner than the limit"),
        ({"unseen": ("the report shows no plot 'p95' in a browser",)}, "no plot 'p95'"),
        ({"tally": replace(TALLY, failed=1, examples=("GET / 502",))}, "1 of 900 requests failed: GET / 502"),
    ],
)
def test_each_promise_that_was_not_kept_is_a_problem(changes: dict[str, object], told: str) -> None:
    (problem,) = problems(**changes)
    assert told in problem


def test_what_a_report_does_not_show_is_told_by_name() -> None:
    seen = Seen("Production runs v1.2.0.", ("errors",), ("http://127.0.0.1:9/p.png",))
    assert seen.lacks(headline="Production is back.", plots=("errors", "p95")) == (
        "the report begins with 'Production runs v1.2.0.', expected 'Production is back.'",
        "the report shows no plot 'p95' in a browser",
        "the report asks for http://127.0.0.1:9/p.png",
    )


def a_story(world: World, rollouts: Path, picture: Path | None = None) -> Story:
    """As far as it looks at reports, of which the folder has one per rollout."""
    place = SimpleNamespace(rollouts=rollouts)
    return Story(place, None, world.store, Console(quiet=True), unattended=True, picture=picture)  # type: ignore[arg-type]


def test_a_report_that_cannot_be_looked_at_is_a_problem_and_not_the_end_of_the_story(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.roll_out()
    (problem,) = a_story(world, tmp_path / "elsewhere")._unseen("1.2.0")
    assert problem.startswith(f"There is no report at {tmp_path / 'elsewhere' / 'production-1' / 'report.html'}")


def test_a_report_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="There is no report at"):
        look_at(tmp_path / "report.html")


@pytest.mark.browser
def test_the_report_of_a_release_that_came_back_shows_its_plots_and_a_picture_is_kept(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.traffic.error_share[GREEN.id] = 0.5
    world.roll_out()
    rollout = world.rollouts[-1]
    record = world.store.rollout(rollout)
    page = keep_page(tmp_path / rollout, world.store.entries(rollout), record)
    seen = look_at(page, picture=tmp_path / "picture.png")
    assert record.ending is Ending.ROLLED_BACK
    judged = ("evidence",)  # this world compares nobody
    assert seen.lacks(headline=record.message or "", plots=(*(one for one in PLOTTED if one not in judged), GREEN.version.tag)) == ()
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")

    story = a_story(world, tmp_path, picture=tmp_path / "again.png")
    assert story._unseen("1.2.0") == ("the report shows no plot 'evidence' in a browser",)
    assert (tmp_path / "again.png").exists()

    broken = page.read_text().replace("data:image/svg+xml;base64,", "data:image/svg+xml;base64,broken")
    page.write_text(broken)
    assert look_at(page).drawn == ()
