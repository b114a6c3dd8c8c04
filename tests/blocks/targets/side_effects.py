"""Everything that a target does to the world, counted, and a process that dies before any one of it.

The engine's changing words and the renames by which the routing's files change are wrapped from outside. Dying is an exception that nobody
catches on purpose; from then on no thread of the dead process can do anything any more. A process that dies after one side effect and
before the next is the same as one that dies before the next: so all places where it can die are covered by all k.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blocks.engine import Engine

CHANGING = (
    "pull",
    "remove_image",
    "create_network",
    "remove_network",
    "create",
    "connect",
    "start",
    "unpause",
    "stop",
    "kill",
    "remove",
)


class Killed(BaseException):
    """The process is gone."""


class SideEffects:
    """`watch` runs an act and names its side effects in order; with `dies_before=3` the process dies before the third."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._lock = threading.Lock()
        self._names: list[str] | None = None
        self._dies_before: int | None = None
        self._dead = False
        for word in CHANGING:
            monkeypatch.setattr(Engine, word, self._counted(word, getattr(Engine, word)))
        monkeypatch.setattr(Path, "rename", self._counted("rename", Path.rename))

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any, **named: Any) -> Any:
            self._count(f"{name} {arguments[1].name}" if name == "rename" else name)
            return real(*arguments, **named)

        return act

    def _count(self, name: str) -> None:
        with self._lock:
            if self._names is None:
                return
            if self._dead or len(self._names) + 1 == self._dies_before:
                self._dead = True
                raise Killed
            self._names.append(name)

    def watch(self, act: Callable[[], object], *, dies_before: int | None = None) -> tuple[list[str], bool]:
        """The names of the side effects that happened, and whether the process died."""
        self._names, self._dies_before, self._dead = [], dies_before, False
        try:
            act()
        except Killed:
            return self._names, True
        else:
            return self._names, False
        finally:
            self._names = None
