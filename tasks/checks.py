"""Checks: the application's own tools look at one commit, side by side; what passed once is not looked at again."""

import contextlib
import fcntl
import hashlib
import itertools
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from delivery.application import Application, CheckSettings, Toolchain
from delivery.check import CheckResult
from delivery.errors import DeliveryError, InvalidSettings, TransientError
from delivery.source import Source
from tasks.findings import findings, tells_of_the_network
from tasks.retry import NETWORK, ONCE, retried
from tasks.shell import run_tool, tool_environment
from tasks.side_by_side import first_failure, side_by_side
from tasks.source import tree_hash, use_of

log = logging.getLogger("greenroom.checks")

SHOWN_TAIL = 40
MOST_LINES_READ = 50_000
LONGEST_PREPARATION = timedelta(minutes=15)
# Bytecode of checked code goes to a folder of its own: quick second starts, and nothing appears in the checkout.
PYCACHE = "cache/pycache"


@dataclass(frozen=True)
class Prepared:
    """A toolchain that is ready: the folder it lies in, and the key of everything it was made from."""

    key: str
    folder: Path
    path: tuple[str, ...]
    links: Mapping[str, str]


def verify(
    source: Source, application: Application, *, work_dir: Path, secrets: Sequence[SecretStr] = (), at_once: int | None = None
) -> tuple[CheckResult, ...]:
    """Runs every check of the application, `at_once` (default: as many as there are cores) side by side, and returns all answers.

    All run to their end before anything is said. Raises `DeliveryError` naming each failing tool with its first findings.
    """
    together = at_once or os.cpu_count() or 1
    with use_of(Path(source.path)):
        toolchains = prepare_toolchains(source, application, work_dir=work_dir, names={check.toolchain for check in application.check})
        acts = [
            partial(check_once, check, source, toolchains.get(check.toolchain or ""), work_dir=work_dir, secrets=secrets)
            for check in application.check
        ]
        outcomes = side_by_side(acts, at_once=together)
    failed = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    told = [outcome for outcome in failed if isinstance(outcome, DeliveryError)]
    if len(told) < len(failed):
        raise next(error for error in failed if not isinstance(error, DeliveryError))
    if told:
        raise DeliveryError("\n".join(error.what for error in told), next="\n".join(dict.fromkeys(error.next for error in told)))
    return tuple(outcome for outcome in outcomes if isinstance(outcome, CheckResult))


@retried(ONCE, name="check", run_name="check {check.name}")
def check_once(
    check: CheckSettings, source: Source, toolchain: Prepared | None, *, work_dir: Path, secrets: Sequence[SecretStr] = ()
) -> CheckResult:
    """One check as a stage of its own: its answer when it passed, else `DeliveryError` with tool, place and next step."""
    result = run_check(check, source, toolchain, work_dir=work_dir, secrets=secrets)
    log.info("%s", result.sentence())
    if result.passed:
        return result
    found = findings(_lines_of(result), folder=source.path, directory=check.directory)
    raise DeliveryError(
        f"{check.name} failed:" + "".join(f"\n  {line}" for line in found),
        next=f"see {result.log}; run `{' '.join(check.command)}` in {check.directory}",
    )


def run_check(
    check: CheckSettings, source: Source, toolchain: Prepared | None, *, work_dir: Path, secrets: Iterable[SecretStr] = ()
) -> CheckResult:
    """Runs one tool and returns its answer; an answer "passed" for the same content, command and toolchain comes from the cache."""
    environment = toolchain_environment(toolchain, work_dir=work_dir)
    key = _check_key(check, source, toolchain, environment)
    memory = work_dir / "cache" / "checks" / f"{key}.json"
    if (remembered := _remembered(memory)) is not None:
        return remembered
    log_file = work_dir / "logs" / str(source.sha) / f"{check.name}.log"
    log_file.unlink(missing_ok=True)
    tool = run_tool(
        check.command,
        directory=inside(source, check.directory),
        environment=environment,
        timeout=timedelta(seconds=check.timeout_seconds),
        log_file=log_file,
        secrets=secrets,
        label=check.name,
    )
    result = CheckResult(check.name, passed=tool.succeeded, seconds=round(tool.seconds, 2), tail=tool.tail, log=str(log_file))
    if result.passed:
        _remember(memory, replace(result, tail=result.tail[-SHOWN_TAIL:]))
    return result


def prepare_toolchains(source: Source, application: Application, *, work_dir: Path, names: Iterable[str | None]) -> Mapping[str, Prepared]:
    """Makes the named toolchains ready, side by side, and links them into the checkout."""
    wanted = sorted({name for name in names if name is not None})
    acts = [partial(prepare_toolchain, name, application.toolchains[name], source, work_dir=work_dir) for name in wanted]
    prepared = dict(zip(wanted, first_failure(side_by_side(acts, at_once=len(acts))), strict=True))
    for toolchain in prepared.values():
        for link, target in toolchain.links.items():
            _link(inside(source, link), Path(target))
    return prepared


@retried(NETWORK, name="prepare toolchain", run_name="prepare {name}")
def prepare_toolchain(name: str, toolchain: Toolchain, source: Source, *, work_dir: Path) -> Prepared:
    """Makes a toolchain once per content of the files it reads, and finds it again afterwards.

    It is made where it stays, since virtual environments cannot be moved; a marker written last tells that it is whole. Two makers
    wait for one another. Raises `TransientError` when a package index did not answer, else `DeliveryError` with the last lines.
    """
    made_from = json.dumps([tree_hash(source, toolchain.reads), toolchain.prepare, sys.platform, os.uname().machine])
    key = hashlib.sha256(made_from.encode()).hexdigest()[:20]
    folder = work_dir / "toolchains" / key

    def placed(text: str) -> str:
        return text.replace("{dir}", str(folder))

    prepared = Prepared(key, folder, tuple(placed(part) for part in toolchain.path), {k: placed(v) for k, v in toolchain.links.items()})
    ready = folder / ".ready"
    with _alone(folder.with_suffix(".lock")):
        if ready.exists():
            ready.touch()  # when it was last used tells housekeeping what may go
            return prepared
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        log_file = folder.with_suffix(".log")
        log_file.unlink(missing_ok=True)
        for command in toolchain.prepare:
            argv = [placed(part) for part in command]
            result = run_tool(
                argv,
                directory=Path(source.path),
                environment=toolchain_environment(None, work_dir=work_dir),
                timeout=LONGEST_PREPARATION,
                log_file=log_file,
                label=f"prepare {name}",
            )
            if not result.succeeded:
                kind = TransientError if tells_of_the_network(result.tail) else DeliveryError
                lines = "".join(f"\n  {line}" for line in findings(result.tail))
                raise kind(f"Toolchain {name} could not be prepared: `{' '.join(command)}` failed:{lines}", next=f"see {log_file}.")
        ready.touch()
    return prepared


def toolchain_environment(toolchain: Prepared | None, *, work_dir: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a tool of this toolchain may know; the programs installed beside Greenroom (uv, node, npm) are found last."""
    settings = {"PYTHONPYCACHEPREFIX": str(work_dir / PYCACHE), **(extra or {})}
    path = toolchain.path if toolchain else ()
    return tool_environment(settings, path=path, last=[str(Path(sys.executable).parent)])


def inside(source: Source, path: str) -> Path:
    """A path of the application inside its checkout. Raises `InvalidSettings` for one that leads out of it."""
    whole = Path(os.path.normpath(Path(source.path) / path))
    if not whole.is_relative_to(source.path):
        raise InvalidSettings(f"The path {path!r} leads out of the repository.", next="correct it in greenroom.toml and commit it.")
    return whole


def _lines_of(result: CheckResult) -> Sequence[str]:
    """A tool's whole output, since the first finding may stand far before the last lines."""
    with Path(result.log).open(encoding="utf-8", errors="replace") as file:
        return [line.rstrip("\n") for line in itertools.islice(file, MOST_LINES_READ)]


def _link(link: Path, target: Path) -> None:
    if link.is_symlink():
        if link.readlink() == target:
            return
        link.unlink()
    if link.exists():
        raise InvalidSettings(
            f"{link} is part of the commit, so no toolchain can be linked there.", next="correct `links` in greenroom.toml."
        )
    link.symlink_to(target, target_is_directory=True)


def _check_key(check: CheckSettings, source: Source, toolchain: Prepared | None, environment: Mapping[str, str]) -> str:
    content = tree_hash(source, check.reads)
    tool = toolchain.key if toolchain else _identity(check.command[0], environment["PATH"])
    facts = ["1", check.name, content, check.command, check.directory, tool]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _identity(program: str, path: str) -> str:
    """A tool of the machine is told apart by its file; its own version command would have to be known."""
    found = shutil.which(program, path=path)
    if found is None:
        return program
    file = Path(found).resolve()
    status = file.stat()
    return f"{file}:{status.st_size}:{status.st_mtime_ns}"


def _remembered(memory: Path) -> CheckResult | None:
    try:
        document: dict[str, Any] = json.loads(memory.read_text(encoding="utf-8"))
        return CheckResult(**{**document, "tail": tuple(document["tail"]), "cached": True})
    except (OSError, ValueError, TypeError, KeyError):
        return None  # not there, or half written by somebody who was ended: look again


def _remember(memory: Path, result: CheckResult) -> None:
    memory.parent.mkdir(parents=True, exist_ok=True)
    draft = memory.with_suffix(f".{os.getpid()}.tmp")
    draft.write_text(json.dumps(asdict(result)), encoding="utf-8")
    draft.replace(memory)


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
