import asyncio
import threading
from collections.abc import Callable

import pytest

from delivery.application import LoadTest, Service
from delivery.errors import InvalidSettings
from delivery.ports import Address
from tasks.load import Answer, LoadResult, Reply, Request, open_loop, percentile, run_load, run_load_on
from tests.samples import a_release
from tests.tasks.small_server import serving


def an_answer(*, due: float = 0.0, start: float = 0.0, end: float = 0.0, status: int | None = 200, error: str | None = None) -> Answer:
    return Answer(0, due, start, end, status, error)


def test_requests_leave_when_they_are_due_though_no_answer_has_come() -> None:
    everybody_is_here = threading.Barrier(10, timeout=60)

    def answer(_: str) -> tuple[int, str]:
        everybody_is_here.wait()  # nobody is answered before all ten have been sent
        return 200, "fine"

    with serving(answer) as url:
        answers = asyncio.run(open_loop(100, 0.1, lambda _: Request(url), timeout_seconds=60))

    assert [answer.status for answer in answers] == [200] * 10
    assert sorted(answer.due for answer in answers) == pytest.approx([number / 100 for number in range(10)])


def test_the_latency_counts_from_when_a_request_was_due() -> None:
    assert an_answer(due=1.0, start=3.0, end=3.5).latency_ms == 2500


def test_more_open_requests_than_allowed_are_recorded_and_not_sent() -> None:
    asked: list[str] = []
    full = threading.Event()

    def answer(path: str) -> tuple[int, str]:
        asked.append(path)
        full.wait(timeout=60)
        return 200, ""

    def request(number: int) -> Request:
        if number == 9:
            full.set()
        return Request(f"{url}/{number}")

    with serving(answer) as url:
        answers = asyncio.run(open_loop(1000, 0.01, request, most_open=3, timeout_seconds=60))

    saturated = [answer for answer in answers if answer.error == "saturated"]
    assert len(answers) == 10
    assert len(saturated) == 7
    assert all(answer.failed for answer in saturated)
    assert sorted(asked) == ["/0", "/1", "/2"]


def test_a_load_without_an_end_runs_until_it_is_stopped() -> None:
    stop, seen = threading.Event(), []

    def keep(answer: Answer, reply: Reply) -> None:
        seen.append((answer.status, reply.body))
        if len(seen) == 5:
            stop.set()

    with serving({"/": (200, "hello")}) as url:
        answers = asyncio.run(open_loop(200, None, lambda _: Request(url + "/", label="home"), stop=stop, on_answer=keep))

    assert len(answers) >= 5
    assert seen[0] == (200, b"hello")
    assert answers[0].label == "home"


def test_a_server_that_hangs_up_is_a_failed_connection() -> None:
    with serving(lambda _: (0, "")) as url:
        answers = asyncio.run(open_loop(10, 0.1, lambda _: Request(url)))

    assert [(answer.status, answer.error, answer.failed) for answer in answers] == [(None, "connection", True)]


def test_a_server_that_never_answers_is_a_timeout() -> None:
    never = threading.Event()

    def answer(_: str) -> tuple[int, str]:
        never.wait(timeout=60)
        return 200, ""

    with serving(answer) as url:
        answers = asyncio.run(open_loop(10, 0.1, lambda _: Request(url), timeout_seconds=0.05))
        never.set()

    assert [(answer.status, answer.error) for answer in answers] == [(None, "timeout")]


def test_the_result_counts_statuses_and_errors_by_name() -> None:
    result = LoadResult.of([an_answer(end=0.1), an_answer(end=0.3, status=500), an_answer(end=0.2, status=None, error="timeout")])

    assert (result.requests, result.failed) == (3, 2)
    assert result.by_status == {"200": 1, "500": 1, "timeout": 1}
    assert (result.p50_ms, result.p99_ms) == (pytest.approx(200), pytest.approx(300))


@pytest.mark.parametrize(("share", "value"), [(0.5, 5), (0.95, 10), (0.1, 1), (1.0, 10)])
def test_percentiles_are_nearest_ranks(share: float, value: float) -> None:
    assert percentile([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], share) == value


def test_a_load_that_sent_nothing_has_shown_nothing() -> None:
    wanted = LoadTest(rate=10, seconds=1, paths=("/",))

    assert LoadResult.of([]).problems(wanted) == ("no request was sent",)


def test_a_result_is_measured_against_what_the_load_test_allows() -> None:
    wanted = LoadTest(rate=10, seconds=1, paths=("/",), max_failed_share=0.1, max_p95_ms=100)
    good = LoadResult(10, 1, 50.0, 100.0, 100.0, {"200": 9, "500": 1})
    bad = LoadResult(10, 2, 50.0, 100.1, 120.0, {"200": 8, "500": 2})

    assert good.problems(wanted) == ()
    assert bad.problems(wanted) == (
        "2 of 10 requests failed (20 %), expected at most 10 %; answers: 8 x 200, 2 x 500",
        "p95 response time 100 ms, expected at most 100 ms",
    )


def test_the_load_test_asks_its_paths_in_turn() -> None:
    asked: list[str] = []

    def answer(path: str) -> tuple[int, str]:
        asked.append(path)
        return 200, ""

    with serving(answer) as url:
        result = run_load(url, LoadTest(rate=100, seconds=0.04, paths=("/a", "/b?x=1")))

    assert (result.requests, result.failed) == (4, 0)
    assert sorted(asked) == ["/a", "/a", "/b?x=1", "/b?x=1"]


def test_without_a_traffic_layer_each_path_goes_to_the_service_that_routes_it() -> None:
    asked: list[tuple[str, str]] = []
    release = a_release(
        services=(
            Service("api", "web", ".", "Dockerfile", replicas=2, port=8000, routes=("/api",), health="/health"),
            Service("worker", "web", ".", "Dockerfile", port=3000, routes=("/",), health="/health"),
        )
    )

    def by(name: str) -> Callable[[str], tuple[int, str]]:
        def answer(path: str) -> tuple[int, str]:
            asked.append((name, path))
            return 200, ""

        return answer

    with serving(by("api-1")) as one, serving(by("api-2")) as two, serving(by("web-1")) as web:
        addresses = (Address("api", "api-1", one), Address("api", "api-2", two), Address("worker", "web-1", web))
        result = run_load_on(addresses, release, LoadTest(rate=100, seconds=0.04, paths=("/api/listings", "/")))

    assert result.failed == 0
    assert sorted(asked) == [("api-1", "/api/listings"), ("api-2", "/api/listings"), ("web-1", "/"), ("web-1", "/")]


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="no address to ask"):
        run_load("not an address", LoadTest(rate=1, seconds=1, paths=("/",)))
