from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from blocks.registry import OciRegistry
from blocks.registry_pause import LONGEST_PAUSE_SECONDS, pause_asked_by, pause_in, with_pauses
from delivery.errors import DeliveryError, TransientError
from tests.blocks.fault_proxy import Fault, FaultProxy, fault_proxy

BUSY = TransientError("The registry answered 429 to GET /v2/.", next="wait.")


def failing(*errors: DeliveryError) -> Callable[[], str]:
    left = list(errors)

    def act() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return act


def answer(status: int, retry_after: str | None) -> httpx.Response:
    return httpx.Response(status, headers={} if retry_after is None else {"Retry-After": retry_after})


@pytest.mark.parametrize(
    ("status", "asked", "seconds"),
    [(429, "7", 7.0), (429, None, 0.0), (429, "soon", 0.0), (429, "", 0.0), (429, "-3", 0.0), (200, "7", 0.0), (503, "7", 0.0)],
)
def test_the_pause_is_what_a_registry_that_is_asked_too_much_says(status: int, asked: str | None, seconds: float) -> None:
    assert pause_in(answer(status, asked)) == seconds


def test_a_pause_may_be_a_date() -> None:
    at = datetime.now(UTC) + timedelta(seconds=90)
    assert 80 < pause_in(answer(429, format_datetime(at, usegmt=True))) <= 90
    assert pause_in(answer(429, format_datetime(at - timedelta(hours=1), usegmt=True))) == 0.0


def test_an_act_is_done_again_after_the_pause_that_was_asked_for() -> None:
    slept: list[float] = []
    assert with_pauses(failing(BUSY, BUSY), lambda: 7.0, sleep=slept.append) == "done"
    assert slept == [7.0, 7.0]


def test_pauses_add_up_to_a_minute_at_most() -> None:
    slept: list[float] = []
    with pytest.raises(TransientError, match="429"):
        with_pauses(failing(*[BUSY] * 9), lambda: 3600.0, sleep=slept.append)
    assert slept == [LONGEST_PAUSE_SECONDS]


@pytest.mark.parametrize(
    ("error", "asked"),
    [(BUSY, 0.0), (TransientError("It answered 503.", next="wait."), 7.0), (DeliveryError("429 is the answer.", next="look."), 7.0)],
)
def test_whatever_does_not_ask_for_a_pause_is_the_callers_to_try_again(error: DeliveryError, asked: float) -> None:
    slept: list[float] = []
    with pytest.raises(type(error)):
        with_pauses(failing(error), lambda: asked, sleep=slept.append)
    assert slept == []


@pytest.fixture
def nobody() -> Iterator[FaultProxy]:
    """A registry that has nothing to forward to: only what a test makes it say is answered."""
    with fault_proxy("127.0.0.1:1") as proxy:
        yield proxy


def test_a_registry_is_asked_for_the_pause_that_the_engine_does_not_pass_on(nobody: FaultProxy) -> None:
    nobody.faults.append(Fault("HEAD", "/v2/team/app/manifests/sha256:0", 429, times=1, headers=(("Retry-After", "3"),)))
    assert pause_asked_by(nobody.address, "team/app", "sha256:0") == 3.0


def test_a_registry_that_does_not_answer_asks_for_no_pause() -> None:
    assert pause_asked_by("127.0.0.1:1", "team/app", "v1") == 0.0


def test_a_registry_that_is_asked_too_much_is_asked_again_after_its_pause(nobody: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(with_pauses, "__kwdefaults__", {"sleep": slept.append})
    nobody.faults += [Fault("GET", "/v2/$", 429, times=2, headers=(("Retry-After", "5"),)), Fault("GET", "/v2/$", 200, times=1)]
    OciRegistry(host=nobody.address, insecure=True).is_ready()
    assert slept == [5.0, 5.0]
    assert [status for _, _, status in nobody.asked] == [429, 429, 200]
