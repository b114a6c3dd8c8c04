import logging
import os
import re
import sys
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from delivery.errors import DeliveryError
from tasks.shell import SHOWN_LINES, TAIL_LINES, ToolResult, run_tool, tool_environment, tools_stop_with

LONG = timedelta(seconds=60)


def run(tmp_path: Path, code: str, *, timeout: timedelta = LONG, secrets: Sequence[SecretStr] = ()) -> ToolResult:
    return run_tool(
        [sys.executable, "-c", code],
        directory=tmp_path,
        environment=tool_environment(),
        timeout=timeout,
        log_file=tmp_path / "logs" / "tool.log",
        secrets=secrets,
        label="tool",
    )


def log_of(tmp_path: Path) -> str:
    return (tmp_path / "logs" / "tool.log").read_text()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_failing_tool_is_a_value_with_its_last_lines(tmp_path: Path) -> None:
    result = run(tmp_path, "import sys; print('out'); print('err', file=sys.stderr, flush=True); sys.exit(3)")
    assert result.exit_code == 3
    assert not result.succeeded
    assert set(result.tail) == {"out", "err"}


def test_the_log_has_everything_and_the_result_the_last_lines(tmp_path: Path) -> None:
    result = run(tmp_path, "for n in range(5000): print('line', n)")
    assert result.succeeded
    assert len(result.tail) == TAIL_LINES
    assert result.tail[-1] == "line 4999"
    assert len(log_of(tmp_path).splitlines()) == 5000


def test_a_flood_leaves_its_two_ends_and_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.shell.LARGEST_LOG", 200_000)
    line = "x" * 60_000
    result = run(tmp_path, f"print('first')\nfor n in range(500): print({line!r})\nprint('last')")
    text = log_of(tmp_path)
    assert len(text) < 201_000
    assert text.startswith("first\n")
    assert text.endswith("last\n")
    assert "[... 29,8" in text
    assert "bytes were left out here ...]" in text
    assert result.tail[-1] == "last"


def test_a_tool_that_prints_without_end_is_ended_and_its_last_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.shell.LARGEST_LOG", 10_000)
    result = run(tmp_path, "while True: print('again')", timeout=timedelta(seconds=1))
    assert result.timed_out
    text = log_of(tmp_path)
    assert len(text) < 11_000
    assert text.splitlines()[-1].startswith("[timed out after")


def test_what_is_shown_of_one_tool_is_bounded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "greenroom.tool"):
        run(tmp_path, "for n in range(5000): print('line', n)")
    shown = [line for record in caplog.records for line in record.getMessage().splitlines()]
    assert len(shown) == SHOWN_LINES + 1
    assert "the rest is only in" in shown[-1]
    assert len(caplog.records) < 100


def test_a_secret_is_nowhere_in_file_log_or_result(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    secret = "correct-horse-battery"
    with caplog.at_level(logging.DEBUG):
        code = f"print('a {secret} b'); print('https://me:{secret[:9]}@host/x'); print('second-line-of-key')"
        result = run(tmp_path, code, secrets=[SecretStr(secret), SecretStr("first-line\nsecond-line-of-key")])
    everything = "\n".join([log_of(tmp_path), caplog.text, *result.tail])
    assert secret not in everything
    assert secret[:9] not in everything
    assert "second-line-of-key" not in everything
    assert result.tail == ("a *** b", "https://***@host/x", "***")


def test_colours_are_stripped(tmp_path: Path) -> None:
    assert run(tmp_path, r"print('\x1b[31mred\x1b[0m \x1b[1;32mgreen\x1b[m')").tail == ("red green",)


def test_output_that_is_no_utf8_does_not_break_it(tmp_path: Path) -> None:
    result = run(tmp_path, r"import sys; sys.stdout.buffer.write(b'\xff\xfe ok\n')")
    assert result.succeeded
    assert result.tail[0].endswith(" ok")


def test_a_tool_gives_way_to_whatever_serves_users(tmp_path: Path) -> None:
    # The priority is set right after the start: the tool asks until it has it, and would time out if it never came.
    code = "import os, time\nwhile os.getpriority(os.PRIO_PROCESS, 0) < 10: time.sleep(0.01)\nprint('waits')"
    assert run(tmp_path, code, timeout=timedelta(seconds=10)).succeeded


def test_a_timeout_ends_the_tool_and_what_it_has_started(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)"
    )
    result = run(tmp_path, code, timeout=timedelta(seconds=1))
    assert result.timed_out
    assert not result.succeeded
    assert "timed out" in result.tail[-1]
    assert not is_alive(int(result.tail[0]))


def test_what_a_tool_leaves_in_the_background_is_ended_with_it(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], stdout=subprocess.DEVNULL)\n"
        "print(child.pid)"
    )
    result = run(tmp_path, code)
    assert result.succeeded
    assert not is_alive(int(result.tail[0]))


def test_a_cancelled_run_ends_its_tools(tmp_path: Path) -> None:
    stop = threading.Event()
    started = tmp_path / "started"
    begun = time.monotonic()

    def cancel_when_it_runs() -> None:
        while not started.exists() and time.monotonic() - begun < 30:
            time.sleep(0.05)
        stop.set()

    watcher = threading.Thread(target=cancel_when_it_runs)
    watcher.start()
    with tools_stop_with(stop):
        result = run(tmp_path, f"import pathlib, time; pathlib.Path({str(started)!r}).touch(); time.sleep(600)")
    watcher.join()
    assert "cancelled" in result.tail[-1]
    assert not result.succeeded


def test_a_missing_tool_is_named_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="'no-such-tool' was not found") as refused:
        run_tool(["no-such-tool"], directory=tmp_path, environment=tool_environment(), timeout=LONG, log_file=tmp_path / "log")
    assert "toolchain" in refused.value.next


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="no such folder"):
        run_tool(["true"], directory=tmp_path / "gone", environment=tool_environment(), timeout=LONG, log_file=tmp_path / "log")


def test_a_tool_knows_nothing_of_greenrooms_and_prefects_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "GREENROOM_DATABASE_URL",
        "PREFECT_API_AUTH_STRING",
        "AWS_SECRET_ACCESS_KEY",
        "NPM_CONFIG_AUTH_TOKEN",
        "UV_INDEX_X_PASSWORD",
    ):
        monkeypatch.setenv(name, "must-not-travel")
    monkeypatch.setenv("PIP_CERT", "/etc/ssl/ca.crt")
    result = run(tmp_path, "import os; print('\\n'.join(f'{k}={v}' for k, v in os.environ.items()))")
    assert "must-not-travel" not in "\n".join(result.tail)
    assert "PIP_CERT=/etc/ssl/ca.crt" in result.tail
    assert "CI=1" in result.tail


def test_toolchains_come_first_and_greenrooms_own_programs_last() -> None:
    path = tool_environment(path=["/toolchain/bin"], last=["/greenroom/bin"])["PATH"].split(os.pathsep)
    assert path[0] == "/toolchain/bin"
    assert path[-1] == "/greenroom/bin"


def test_hidden_lines_are_in_the_log_file_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "greenroom.tool"):
        run_tool(
            [sys.executable, "-c", "print('#1 sha256:abc'); print('#1 ok')"],
            directory=tmp_path,
            environment=tool_environment(),
            timeout=LONG,
            log_file=tmp_path / "log",
            hide=re.compile("#1 sha256:"),
        )
    assert "ok" in caplog.text
    assert "abc" not in caplog.text
    assert "abc" in (tmp_path / "log").read_text()
