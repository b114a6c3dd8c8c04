"""The tools that checks need: prepared once per content of what they are made from, and found again afterwards."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from delivery.application import Application, Toolchain
from delivery.errors import DeliveryError, InvalidSettings, TransientError
from delivery.source import Source
from tasks.findings import findings, tells_of_the_network
from tasks.retry import NETWORK, retried
from tasks.shell import run_tool, tool_environment
from tasks.side_by_side import first_failure, side_by_side
from tasks.source import tree_hash

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


def program_identity(program: str, path: str) -> str:
    """A tool of the machine is told apart by its file; its own version command would have to be known."""
    found = shutil.which(program, path=path)
    if found is None:
        return program
    file = Path(found).resolve()
    status = file.stat()
    return f"{file}:{status.st_size}:{status.st_mtime_ns}"


def inside(source: Source, path: str) -> Path:
    """A path of the application inside its checkout. Raises `InvalidSettings` for one that leads out of it."""
    whole = Path(os.path.normpath(Path(source.path) / path))
    if not whole.is_relative_to(source.path):
        raise InvalidSettings(f"The path {path!r} leads out of the repository.", next="correct it in greenroom.toml and commit it.")
    return whole


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


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
