import logging
from datetime import timedelta

import pytest

from delivery.errors import DeliveryError, InvalidSettings, TransientError
from tasks.retry import NETWORK, ONCE, PATIENT, QUICK, RetryPolicy, in_prefect_run, is_transient, retried

POLICIES = (QUICK, NETWORK, PATIENT)


class Shaky:
    """Fails `failures` times, then returns how often it was asked."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.asked = 0
        self._failures = failures
        self._error = error

    def __call__(self) -> int:
        self.asked += 1
        if self.asked <= self._failures:
            raise self._error
        return self.asked


def silent() -> TransientError:
    return TransientError("The registry answered 503.", next="wait")


class Waits(list[float]):
    """Takes the place of waiting, so that no test waits."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_a_transient_error_is_tried_again_up_to_the_last_attempt(policy: RetryPolicy) -> None:
    assert policy.call(Shaky(policy.attempts - 1, silent()), pause=Waits()) == policy.attempts


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_the_last_transient_error_is_raised_when_the_attempts_are_used_up(policy: RetryPolicy) -> None:
    shaky = Shaky(99, silent())
    with pytest.raises(TransientError, match="503"):
        policy.call(shaky, pause=Waits())
    assert shaky.asked == policy.attempts


def test_an_act_that_is_done_once_raises_its_transient_error_as_it_is() -> None:
    with pytest.raises(TransientError, match="503"):
        ONCE.call(Shaky(99, silent()), pause=Waits())


@pytest.mark.parametrize("error", [DeliveryError("no", next="do"), InvalidSettings("no", next="do"), ValueError("no")])
def test_nothing_but_a_transient_error_is_tried_again(error: Exception) -> None:
    shaky = Shaky(1, error)
    with pytest.raises(type(error)):
        NETWORK.call(shaky, pause=Waits())
    assert shaky.asked == 1


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_pauses_double_up_to_the_longest_and_chance_adds_at_most_a_quarter(policy: RetryPolicy) -> None:
    waits = Waits()
    with pytest.raises(TransientError):
        policy.call(Shaky(99, silent()), pause=waits)
    assert policy.delays[0] == policy.first_delay.total_seconds()
    assert policy.delays[-1] == policy.max_delay.total_seconds() or policy.delays[-1] == 2 * policy.delays[-2]
    assert len(waits) == len(policy.delays)
    assert all(delay <= wait <= 1.25 * delay for wait, delay in zip(waits, policy.delays, strict=True))


def test_every_further_try_is_a_visible_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "greenroom.retry"):
        QUICK.call(Shaky(2, silent()), pause=Waits())
    assert [record.getMessage()[:15] for record in caplog.records] == ["try 1 of 3 fail", "try 2 of 3 fail"]
    assert "answered 503" in caplog.text


def test_no_try_begins_after_the_time_that_is_left() -> None:
    shaky = Shaky(99, silent())
    with pytest.raises(TransientError):
        PATIENT.call(shaky, within=timedelta(0), pause=Waits())
    assert shaky.asked == 1


def test_prefect_gets_the_same_numbers() -> None:
    options = NETWORK.options()
    assert options["retries"] == NETWORK.attempts - 1
    assert options["retry_delay_seconds"] == list(NETWORK.delays)
    assert options["retry_condition_fn"] is is_transient


class StateOf:
    def __init__(self, data: object) -> None:
        self.data = data


def test_prefect_retries_what_is_transient_and_nothing_else() -> None:
    assert is_transient(None, None, StateOf(silent()))
    assert not is_transient(None, None, StateOf(DeliveryError("no", next="do")))
    assert not is_transient(None, None, StateOf(None))


def test_outside_of_a_prefect_run_a_retried_act_is_a_plain_call_with_its_policy() -> None:
    policy = RetryPolicy("now", attempts=2, first_delay=timedelta(0), max_delay=timedelta(0))
    shaky = Shaky(1, silent())

    @retried(policy, name="act")
    def act(addend: int, *, factor: int) -> int:
        return (shaky() + addend) * factor

    assert not in_prefect_run()
    assert act(1, factor=10) == 30


@pytest.mark.prefect
def test_inside_a_flow_a_retried_act_is_a_task_that_retries_and_raises_the_very_error() -> None:
    from prefect import flow  # noqa: PLC0415  the fast tests of this file need no Prefect
    from prefect.testing.utilities import prefect_test_harness  # noqa: PLC0415

    policy = RetryPolicy("now", attempts=3, first_delay=timedelta(seconds=0.01), max_delay=timedelta(seconds=0.01))
    shaky = Shaky(2, silent())
    broken = Shaky(99, InvalidSettings("The weights end at 90.", next="end them at 100"))
    seen: list[bool] = []

    @retried(policy, name="shaky", run_name="shaky {word}")
    def work(word: str) -> str:
        seen.append(in_prefect_run())
        return f"{word} {shaky()}"

    @retried(ONCE, name="broken")
    def refuse() -> int:
        return broken()

    @flow
    def both() -> str:
        answer = work("try")
        with pytest.raises(InvalidSettings, match="end at 90") as raised:
            refuse()
        assert raised.value.next == "end them at 100"
        return answer

    with prefect_test_harness(server_startup_timeout=120):
        assert both() == "try 3"
    assert seen == [True, True, True]
    assert broken.asked == 1
