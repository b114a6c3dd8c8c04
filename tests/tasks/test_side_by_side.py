import sys
import threading
from contextvars import ContextVar
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from tasks.shell import run_tool, tool_environment
from tasks.side_by_side import first_failure, side_by_side

whose: ContextVar[str] = ContextVar("whose")


def test_results_stand_in_the_order_of_the_acts_and_failures_among_them() -> None:
    broken = ValueError("b")

    def fail() -> str:
        raise broken

    assert side_by_side([lambda: "a", fail, lambda: "c"], at_once=2) == ["a", broken, "c"]


def test_the_first_failure_is_raised() -> None:
    with pytest.raises(ValueError, match="first"):
        first_failure(["a", ValueError("first"), ValueError("second")])
    assert first_failure(["a", "b"]) == ["a", "b"]


def test_never_more_than_allowed_work_together() -> None:
    working: set[int] = set()
    most: list[int] = []
    both = threading.Barrier(2, timeout=20)

    def act(number: int) -> None:
        working.add(number)
        both.wait()  # two are in here together, or this breaks
        most.append(len(working))
        both.wait()
        working.discard(number)

    outcomes = side_by_side([partial(act, number) for number in range(4)], at_once=2)
    assert outcomes == [None] * 4
    assert max(most) == 2


def test_acts_see_the_context_of_whoever_starts_them() -> None:
    token = whose.set("this run")
    try:
        assert side_by_side([whose.get, whose.get], at_once=2) == ["this run"] * 2
    finally:
        whose.reset(token)


def test_an_interruption_ends_the_tools_of_all_acts(tmp_path: Path) -> None:
    started = threading.Event()
    results = []

    def tool() -> None:
        def tell() -> None:
            while not (tmp_path / "started").exists():
                threading.Event().wait(0.05)
            started.set()

        threading.Thread(target=tell, daemon=True).start()
        code = f"import pathlib, time; pathlib.Path({str(tmp_path / 'started')!r}).touch(); time.sleep(600)"
        results.append(
            run_tool(
                [sys.executable, "-c", code],
                directory=tmp_path,
                environment=tool_environment(),
                timeout=timedelta(minutes=10),
                log_file=tmp_path / "log",
            )
        )

    def interrupt() -> None:
        started.wait(30)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        side_by_side([interrupt, tool], at_once=2)
    assert [result.tail[-1].split()[0] for result in results] == ["[cancelled"]
