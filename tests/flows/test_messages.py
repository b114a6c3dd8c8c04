"""A run ends with one message; tracebacks are for surprises."""

import logging
import os
import traceback

import pytest
from prefect.exceptions import FailedRun
from prefect.logging.handlers import PrefectConsoleHandler

from delivery.errors import InvalidSettings
from delivery.redaction import Unforeseen, know
from flows.messages import in_one_message


@in_one_message
def ends(how: str) -> str:
    """Ends as it is told to."""
    if how == "refused":
        raise InvalidSettings("No such environment.", next="correct it.")
    if how == "surprise":
        raise ZeroDivisionError
    if how == "careless":
        raise KeyError("correct-horse")
    return "Production runs v1.0.0."


def test_the_returned_sentence_is_the_runs_message() -> None:
    state = ends("well")
    assert (state.type, state.message) == ("COMPLETED", "Production runs v1.0.0.")


def test_a_foreseen_error_is_a_failed_run_with_its_message() -> None:
    state = ends("refused")
    assert (state.type, state.message) == ("FAILED", "No such environment. Next: correct it.")


def test_a_surprise_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        ends("surprise")


def test_a_surprise_that_holds_a_secret_is_told_without_it() -> None:
    know(["correct-horse"])
    with pytest.raises(Unforeseen, match="KeyError") as told:
        ends("careless")
    assert "correct-horse" not in "".join(traceback.format_exception(told.value))


def test_the_parameters_and_the_docstring_stay_visible_for_prefects_form() -> None:
    assert (ends.__doc__, ends.__name__) == ("Ends as it is told to.", "ends")


@pytest.mark.parametrize(("error", "shown"), [(InvalidSettings("No.", next="go."), "no traceback"), (ZeroDivisionError(), "traceback")])
def test_prefects_log_shows_a_traceback_for_surprises_only(error: Exception, shown: str) -> None:
    ends("well")
    record = logging.LogRecord("prefect.task_runs", logging.ERROR, "", 0, "Task run failed", (), (type(error), error, None))
    assert logging.getLogger("prefect.task_runs").filter(record)
    assert ("traceback" if record.exc_info else "no traceback") == shown


def test_what_the_engine_adds_to_a_told_failure_is_dropped() -> None:
    ends("well")
    error = FailedRun("told already")
    record = logging.LogRecord("prefect.flow_runs", logging.ERROR, "", 0, "Engine execution exited", (), (FailedRun, error, None))
    assert not logging.getLogger("prefect.flow_runs").filter(record)


def test_a_run_goes_on_when_nobody_reads_its_lines_any_longer() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w", buffering=1) as stream:
        handler = PrefectConsoleHandler(stream=stream)
        prefect = logging.getLogger("prefect")
        prefect.addHandler(handler)
        try:
            ends("well")
            handler.emit(logging.LogRecord("prefect.flow_runs", logging.INFO, "", 0, "read", (), None))
            read = os.read(reader, 100)
            os.close(reader)
            for line in ("the worker dies", "the walk goes on"):
                handler.emit(logging.LogRecord("prefect.flow_runs", logging.INFO, "", 0, line, (), None))
        finally:
            prefect.removeHandler(handler)
    assert read == b"read\n"
