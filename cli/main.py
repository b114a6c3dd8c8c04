"""`greenroom`: a person at a terminal, and how each command ends."""

import os
import sys
from collections.abc import Sequence

from cli.commands import app
from cli.options import FAILED
from delivery.errors import DeliveryError, InvalidSettings
from delivery.redaction import hide_secrets_in_logs, redacted

REFUSED, INTERRUPTED = 2, 130


def run(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code: 0 done, 1 a failed act, 2 refused input, 130 interrupted.

    What goes wrong is told in two lines, what and next; GREENROOM_DEBUG=1 shows the traceback.
    """
    hide_secrets_in_logs()
    try:
        app(args=list(arguments), prog_name="greenroom")
    except SystemExit as done:
        if done.code == INTERRUPTED:  # typer's answer to Ctrl-C
            _tell("Interrupted.", "`greenroom status` shows what is under way; what was begun goes on or is turned back by itself.", None)
        return done.code if isinstance(done.code, int) else FAILED
    except DeliveryError as error:
        _tell(error.what, error.next, error)
        return REFUSED if isinstance(error, InvalidSettings) else FAILED
    except Exception as error:  # noqa: BLE001  the last net: a person never meets a traceback first
        _tell(
            f"Greenroom broke in a way nobody foresaw ({type(error).__name__}).",
            "run it again with GREENROOM_DEBUG=1 to see where, and look at `greenroom doctor`.",
            error,
        )
        return FAILED
    return 0


def _tell(what: str, next_step: str, error: BaseException | None) -> None:
    if error is not None and os.environ.get("GREENROOM_DEBUG") == "1":
        import traceback

        print(redacted("".join(traceback.format_exception(error))), file=sys.stderr, end="")
    print(what, file=sys.stderr)
    print(f"Next: {next_step}", file=sys.stderr)


def main() -> None:
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
