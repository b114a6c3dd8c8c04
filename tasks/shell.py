"""The one place that runs tools: argument lists, a bare environment, redacted output, and an end that is certain."""

import contextlib
import logging
import os
import queue
import re
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO

from pydantic import SecretStr

from delivery.errors import DeliveryError
from delivery.kept_text import TwoEnds
from delivery.redaction import Redactor, redacted

log = logging.getLogger("greenroom.tool")

TAIL_LINES = 200
BATCH_LINES = 100
BATCH_SECONDS = 1.0
# What of one tool goes to the log in the UI; the file has more.
SHOWN_LINES = 2_000
# What of one run of a tool goes to its file: half of it from the beginning, half from the end.
LARGEST_LOG = 16 * 1024 * 1024
# So many lines wait to be written; a tool that prints quicker than that waits, and no memory fills up.
_WAITING_LINES = 256
LONGEST_SHOWN_LINE = 2_000
GRACE = timedelta(seconds=5)
# How long the output of a tool that has ended may be held open by something it started.
HELD_OPEN = timedelta(seconds=1)
NOT_FOUND = 127

# Everything else of Greenroom's own environment stays with Greenroom: its settings and Prefect's hold secrets.
_PASSED_ON = frozenset({
    "PATH", "HOME", "LANG", "LANGUAGE", "TZ", "USER", "LOGNAME", "SHELL", "TMPDIR", "TERM", "CHROMIUM_PATH",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "PIP_CERT", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
})  # fmt: skip
_PASSED_ON_PREFIXES = ("LC_", "PIP_", "UV_", "NPM_CONFIG_", "npm_config_")
_SECRET_NAME = re.compile(r"token|passw|secret|auth|credential|_key$", re.IGNORECASE)

_COLOURS = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07|[\x00-\x08\x0b-\x1f\x7f]")

_stop: ContextVar[threading.Event | None] = ContextVar("greenroom_stop_tools", default=None)


@dataclass(frozen=True)
class ToolResult:
    """How a tool ended. `tail` holds its last 200 lines, redacted; `seconds` is wall time."""

    exit_code: int
    seconds: float
    tail: tuple[str, ...]
    timed_out: bool = False

    @property
    def succeeded(self) -> bool:
        return self.exit_code == 0 and not self.timed_out


def tool_environment(extra: Mapping[str, str] | None = None, *, path: Iterable[str] = (), last: Iterable[str] = ()) -> dict[str, str]:
    """What tools may know: where programs, certificates, proxies and package indexes are, and `extra`; never Greenroom's settings.

    `path` comes before the PATH of this process and `last` after it. `CI=1` tells tools that nobody is watching.
    """
    passed = {
        name: value
        for name, value in os.environ.items()
        if (name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)) and not _SECRET_NAME.search(name)
    }
    passed["PATH"] = os.pathsep.join([*path, passed.get("PATH", os.defpath), *last])
    return {"LANG": "C.UTF-8", **passed, "CI": "1", "NO_COLOR": "1", **(extra or {})}


@contextlib.contextmanager
def tools_stop_with(stop: threading.Event) -> Iterator[None]:
    """Tools started in this context end when `stop` is set; a cancelled run must not leave them working for nobody."""
    before = _stop.set(stop)
    try:
        yield
    finally:
        _stop.reset(before)


# Where one machine proves releases and serves users, users go first: at this niceness a tool weighs a tenth of a normal process.
NICENESS = 10


def _give_way(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended already, or may not be told
        os.setpriority(os.PRIO_PGRP, group, NICENESS)


def run_tool(  # noqa: PLR0913  each is one thing about one call, and most have a default
    command: Sequence[str],
    *,
    directory: Path,
    environment: Mapping[str, str],
    timeout: timedelta,
    log_file: Path,
    secrets: Iterable[SecretStr] = (),
    label: str | None = None,
    hide: re.Pattern[str] | None = None,
    output_to: Path | None = None,
) -> ToolResult:
    """Runs a tool to its end and returns how that was; a failing tool is a value.

    Its output goes, redacted, to `log_file` (whole up to 16 MB, else its two ends) and to the log in batches, each line after `label` and
    without those that `hide` matches. With `output_to` its standard output goes there as it is, and what is said here concerns its standard
    error. After `timeout`, or when the run is cancelled, its whole process group is ended. Raises `DeliveryError` for a
    program or directory that is not there.
    """
    program = shutil.which(command[0], path=environment.get("PATH"))
    if program is None:
        raise DeliveryError(
            f"The program {command[0]!r} was not found in PATH.",
            next="install it, or add the toolchain that brings it to greenroom.toml.",
        )
    if not directory.is_dir():
        raise DeliveryError(f"{command[0]} cannot run in {directory}: no such folder.", next="correct `directory` in greenroom.toml.")
    log_file.parent.mkdir(parents=True, exist_ok=True)
    output = _Output(label or Path(command[0]).name, Redaction(secrets), hide)
    began = time.monotonic()
    # Not plumbum's popen: that adds this process's whole environment, secrets included, to what the tool gets.
    with contextlib.ExitStack() as opened:
        process = subprocess.Popen(
            list(command),
            executable=program,
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=opened.enter_context(output_to.open("wb")) if output_to else subprocess.PIPE,
            stderr=subprocess.PIPE if output_to else subprocess.STDOUT,
            start_new_session=True,  # a group of its own, so that a timeout reaches whatever the tool has started
        )
    said = process.stderr if output_to else process.stdout
    _give_way(process.pid)
    try:
        with log_file.open("ab") as file, contextlib.ExitStack() as ending:
            ending.callback(lambda: output.finish(file))
            reason = output.follow(process, said, file, deadline=began + timeout.total_seconds())
            if reason is not None:
                end_group(process)
                output.add(f"[{reason} after {time.monotonic() - began:.0f} s; the tool and all it had started were ended]", file)
            output.show()
    finally:
        end_group(process)
        if said is not None:
            said.close()
    return ToolResult(process.wait(), time.monotonic() - began, tuple(output.tail), timed_out=reason is not None)


class Redaction:
    """Hides secrets, those that the process knows and further ones, and logins inside addresses; strips colours."""

    def __init__(self, secrets: Iterable[SecretStr]) -> None:
        self._further = Redactor(secret.get_secret_value() for secret in secrets)

    def __call__(self, text: str) -> str:
        return redacted(self._further(_COLOURS.sub("", text)))


class _Output:
    """Follows a tool's output: its two ends to the file, a bounded part to the log, the last lines kept."""

    def __init__(self, label: str, redact: Redaction, hide: re.Pattern[str] | None) -> None:
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._label = label
        self._redact = redact
        self._hide = hide
        self._batch: list[str] = []
        self._batch_since = time.monotonic()
        self._shown = 0
        self._ends = TwoEnds(LARGEST_LOG)

    def follow(self, process: subprocess.Popen[bytes], said: IO[bytes] | None, file: IO[bytes], *, deadline: float) -> str | None:
        """Reads until the tool has ended; returns why it must be ended, or None when it ended by itself.

        A thread reads and this one logs, since only this one carries the context by which Prefect knows whose line it is.
        """
        lines: queue.Queue[bytes | None] = queue.Queue(_WAITING_LINES)
        left = threading.Event()
        threading.Thread(target=_read_into, args=(said, lines, left), daemon=True).start()
        try:
            return self._followed(process, lines, file, deadline)
        finally:
            left.set()

    def _followed(
        self, process: subprocess.Popen[bytes], lines: "queue.Queue[bytes | None]", file: IO[bytes], deadline: float
    ) -> str | None:
        cancelled = _stop.get()
        gone_since: float | None = None
        while True:
            try:
                line = lines.get(timeout=0.2)
            except queue.Empty:
                line = b""
            if line is None:
                return self._wait_for_end(process, deadline)
            if line:
                self.add(line.decode("utf-8", errors="replace").rstrip("\r\n"), file)
            now = time.monotonic()
            if len(self._batch) >= BATCH_LINES or (self._batch and now - self._batch_since >= BATCH_SECONDS):
                self.show()
            if cancelled is not None and cancelled.is_set():
                return "cancelled"
            if now > deadline:
                return "timed out"
            if process.poll() is not None and not line:
                # The tool is gone but something it started holds its output open.
                gone_since = gone_since or now
                if now - gone_since > HELD_OPEN.total_seconds():
                    return None

    def _wait_for_end(self, process: subprocess.Popen[bytes], deadline: float) -> str | None:
        try:
            process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return "timed out"
        return None

    def finish(self, file: IO[bytes]) -> None:
        file.write(self._ends.ending())

    def add(self, line: str, file: IO[bytes]) -> None:
        line = self._redact(line)
        file.write(self._ends.take(f"{line}\n".encode(errors="replace")))
        self.tail.append(line[:LONGEST_SHOWN_LINE])
        if self._hide is not None and self._hide.match(line):
            return
        if self._shown == SHOWN_LINES:
            self._batch.append(f"(more than {SHOWN_LINES} lines; the rest is only in {file.name})")
        elif self._shown < SHOWN_LINES and line.strip():
            self._batch.append(line[:LONGEST_SHOWN_LINE])
        self._shown += 1

    def show(self) -> None:
        if self._batch:
            log.info("%s", "\n".join(f"{self._label} | {line}" for line in self._batch))
        self._batch = []
        self._batch_since = time.monotonic()


def _read_into(stream: IO[bytes] | None, lines: "queue.Queue[bytes | None]", left: threading.Event) -> None:
    """Until the output ends, or nobody follows any longer."""

    def put(line: bytes | None) -> None:
        while not left.is_set():
            with contextlib.suppress(queue.Full):
                lines.put(line, timeout=0.2)
                return

    with contextlib.suppress(OSError, ValueError):  # closed under our hands once the tool was ended
        for line in iter(lambda: stream.readline(65_536) if stream and not left.is_set() else b"", b""):
            put(line)
    put(None)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends a tool and everything it has started: asked first, killed after five seconds. Does nothing when all are gone."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not _group_lives(process):
            break
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        deadline = time.monotonic() + GRACE.total_seconds()
        while _group_lives(process) and time.monotonic() < deadline:
            time.sleep(0.02)
    process.wait()


def _group_lives(process: subprocess.Popen[bytes]) -> bool:
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    # The kernel also counts the dead whose parent does not take their exit status, as in containers without an init.
    return any(_state_and_group(entry) == (True, process.pid) for entry in Path("/proc").glob("[0-9]*/stat"))


def _state_and_group(entry: Path) -> tuple[bool, int]:
    try:
        state, _parent, group = entry.read_text().rpartition(")")[2].split()[:3]
    except (OSError, ValueError):
        return False, 0
    return state not in "ZX", int(group)
