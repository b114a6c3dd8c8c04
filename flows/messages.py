"""How a flow run ends: one message, and never a traceback for what Greenroom foresaw."""

import logging
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

from prefect.client.schemas.objects import State
from prefect.exceptions import CancelledRun, FailedRun, UnfinishedRun
from prefect.logging.handlers import PrefectConsoleHandler
from prefect.states import Completed, Failed

from delivery.errors import DeliveryError
from delivery.redaction import harmless, hide_secrets_in_logs, redacted

log = logging.getLogger("greenroom.flow")

P = ParamSpec("P")


def in_one_message(body: Callable[P, str]) -> Callable[P, State[Any]]:
    """A flow whose body returns the sentence that the run ends with; a `DeliveryError` becomes a failed run with its message.

    Anything else that breaks is a surprise and keeps its traceback.
    """

    @wraps(body)
    def told(*arguments: P.args, **named: P.kwargs) -> State[Any]:
        _set_up_logging()
        try:
            sentence = body(*arguments, **named)
        except DeliveryError as broken:
            log.error("%s", broken)  # noqa: TRY400  the message is what people need; the traceback is not
            return Failed(message=str(broken))
        except Exception as broken:
            if (stand_in := harmless(broken)) is broken:
                raise
            raise stand_in from None
        return Completed(message=redacted(sentence))

    return told


class _NoTracebackForTheForeseen(logging.Filter):
    """Takes the traceback off a foreseen error, and drops what the engine adds when a flow has told its end already."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, (FailedRun, CancelledRun, UnfinishedRun)):
            return False
        if isinstance(error, DeliveryError):
            record.exc_info = record.exc_text = None
        return True


_filter = _NoTracebackForTheForeseen()


def _set_up_logging() -> None:
    """Our own lines appear in the run from INFO on; for an error that names its next step the sentence is enough, without a traceback."""
    hide_secrets_in_logs()
    ours = logging.getLogger("greenroom")
    if ours.level == logging.NOTSET:
        ours.setLevel(logging.INFO)
    for name in ("prefect.task_runs", "prefect.flow_runs"):
        logging.getLogger(name).addFilter(_filter)  # the same filter twice is one
    for handler in (*logging.getLogger().handlers, *logging.getLogger("prefect").handlers):
        if isinstance(handler, PrefectConsoleHandler):
            outlive_the_reader(handler)


def outlive_the_reader(handler: PrefectConsoleHandler) -> None:
    """A console whose reader died falls silent, and the run goes on: the lines also go to Prefect's API.

    A flow's process writes into a pipe that its worker reads. rich's own answer to a broken pipe is `SystemExit`, which would end a rollout
    half way because its worker died.
    """
    console = handler.console

    def fall_silent() -> None:
        console.quiet = True
        # What is still buffered must go somewhere too, and so must whatever else writes there.
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), console.file.fileno())

    # Prefect makes the console, so there is no subclass of it to be had.
    console.on_broken_pipe = fall_silent  # type: ignore[method-assign]
