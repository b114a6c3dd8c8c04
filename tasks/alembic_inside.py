"""Inside the application's image, with its own Alembic and driver: what the release carries, and how it is applied.

Sent as text (`tasks/image_alembic.py`); prints one line of JSON, or what it refuses and the way out.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import time
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory

from tasks.alembic_guard import TRY_AGAIN, Guard, HalfDone, Late, sqlstate_of

_GONE = ("08", "57P01", "57P02", "57P03")
_HOLDERS = """
SELECT pid, extract(epoch FROM now() - xact_start)::int FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start < now() - interval '1 second'
ORDER BY xact_start LIMIT 3
"""
_DRIVER = re.compile(
    r"asyncio extension requires an async driver|greenlet_spawn has not been called|Can't load plugin: sqlalchemy\.dialects"
)


class Refused(Exception):  # noqa: N818  reads as the sentence it is
    """What a person has to mend, and how."""

    def __init__(self, what: str, way_out: str) -> None:
        super().__init__(what)
        self.what, self.way_out = what, way_out


def main(asked: dict[str, Any]) -> None:
    from tasks.alembic_back import downgrade, standing  # noqa: PLC0415  it builds on this module

    acts = {"read": read, "pending": pending, "upgrade": upgrade, "standing": standing, "downgrade": downgrade}
    answer: dict[str, Any] = {}
    try:
        acts[asked["act"]](asked, answer)
    except Refused as refused:
        answer["refused"] = {"what": refused.what, "next": refused.way_out}
    except Exception as broken:  # noqa: BLE001  whatever the application's own code raises is an answer
        told = told_of(broken)
        answer["refused"] = {"what": told.what, "next": told.way_out}
    print(f"\n{asked['mark']}{json.dumps(answer)}", flush=True)  # noqa: T201  its answer


# ---- reading


def open_script(asked: dict[str, Any]) -> tuple[Config, ScriptDirectory]:
    file = asked["config"]
    if not Path(file).is_file():
        raise Refused(
            f"the image has no {file} in {os.getcwd()}",  # noqa: PTH109  as the application sees it
            "COPY it into the image beside the migrations, or correct `config` in [migrations] of greenroom.toml",
        )
    config = Config(file)
    try:
        script = ScriptDirectory.from_config(config)
        heads = script.get_heads()
    except Exception as broken:  # noqa: BLE001  Alembic has many
        raise Refused(
            f"Alembic cannot read its revisions: {first_line(broken)}", "run `alembic history` in the image and mend it"
        ) from None
    if len(heads) > 1:
        raise Refused(
            f"there are {len(heads)} heads ({', '.join(sorted(heads))}), expected one",
            f"join them: `alembic merge -m 'merge' {' '.join(sorted(heads))}`, or set the down_revision of the later one",
        )
    return config, script


def read(asked: dict[str, Any], answer: dict[str, Any]) -> None:
    """All revisions, base first, each rendered by itself as Alembic would apply it."""
    from tasks.alembic_back import taken_back  # noqa: PLC0415  it builds on this module

    config, script = open_script(asked)
    answer["heads"] = list(script.get_heads())
    answer["revisions"] = []
    for one in list(script.walk_revisions())[::-1]:
        answer["revisions"].append({**described(one), **rendered(config, one), **taken_back(config, one)})


def described(one: Any) -> dict[str, Any]:
    return {
        "id": one.revision,
        "down": list(one._versioned_down_revisions),  # noqa: SLF001  as every command of Alembic does
        "sha256": hashlib.sha256(Path(one.path).read_bytes()).hexdigest(),
        "title": (one.doc or "").splitlines()[0][:200] if one.doc else "",
    }


def rendered(config: Config, one: Any) -> dict[str, Any]:
    down = one._versioned_down_revisions  # noqa: SLF001
    if len(down) > 1:  # a merge has no statements of its own but for Alembic's note
        return {"sql": "" if is_empty(one) else None, "problem": "" if is_empty(one) else "a merge that does something"}
    buffer = io.StringIO()
    config.output_buffer = buffer
    try:
        command.upgrade(config, f"{down[0] if down else 'base'}:{one.revision}", sql=True)
    except (Exception, SystemExit) as broken:  # noqa: BLE001  any code of the application may run here
        if trouble := driver_trouble(broken):
            raise trouble from None
        return {"sql": None, "problem": f"{type(broken).__name__}: {first_line(broken)}"[:300]}
    return {"sql": buffer.getvalue(), "problem": ""}


def is_empty(one: Any) -> bool:
    upgrade_code = getattr(one.module, "upgrade", None)
    return upgrade_code is None or not upgrade_code.__code__.co_names


def ancestors(script: ScriptDirectory, names: list[str]) -> set[str]:
    found: set[str] = set()
    waiting = [script.get_revision(name) for name in names]
    while waiting:
        one = waiting.pop()
        if one is not None and one.revision not in found:
            found.add(one.revision)
            waiting += [script.get_revision(name) for name in one._all_down_revisions]  # noqa: SLF001
    return found


def known(script: ScriptDirectory, name: str) -> bool:
    try:
        return script.get_revision(name) is not None
    except Exception:  # noqa: BLE001  Alembic has several kinds of no
        return False


# ---- applying


def upgrade(asked: dict[str, Any], answer: dict[str, Any]) -> None:
    """Brings the database to the head, one revision after the other; believes only what it reads back.

    `reviewed` maps revisions to the hashes of their files; None: whatever is pending may run, since no version serves yet.
    """
    config, script = open_script(asked)
    guard = Guard(**asked["limits"])
    guard.install()
    watching = asked.get("watch", False)
    runner = Runner(config, script, guard)
    try:
        runner.upgrade(asked.get("reviewed"), answer, watching=watching)
    finally:
        answer.update(tries=runner.tries, seconds=round(time.monotonic() - runner.began, 3))


def pending(asked: dict[str, Any], answer: dict[str, Any]) -> None:
    """Where the database stands, and what an upgrade would apply."""
    config, script = open_script(asked)
    guard = Guard(**asked["limits"])
    guard.install()
    runner = Runner(config, script, guard)
    answer["before"] = runner.until_it_answers()
    found = runner.pending(answer["before"])
    runner.require_reviewed(found, asked.get("reviewed"))
    answer["pending"] = [one.revision for one in found]


class Runner:
    """One database and one chain of revisions."""

    def __init__(self, config: Config, script: ScriptDirectory, guard: Guard) -> None:
        self.config, self.script, self.guard = config, script, guard
        self.began = time.monotonic()
        self.tries = 0

    def upgrade(self, reviewed: dict[str, str] | None, answer: dict[str, Any], *, watching: bool) -> None:
        answer["before"] = answer["after"] = self.until_it_answers()
        answer["applied"] = []
        watch = None
        if watching:
            from tasks.image_watch import Watch  # noqa: PLC0415  sent for rehearsals only

            watch = self.guard.watcher = Watch()
        while pending := self.pending(answer["after"]):
            self.require_reviewed(pending, reviewed)
            one = pending[0]
            if watch is not None:
                self.look(watch.before)
            acted = self.apply(one.revision, lambda one=one: command.upgrade(self.config, one.revision))
            answer["after"] = self.until_it_answers()
            if one.revision in {p.revision for p in self.pending(answer["after"])}:
                raise Refused(
                    f"revision {one.revision} was run and the database is still at {told(answer['after'])}",
                    "look whether the revision or env.py keeps Alembic from noting it in alembic_version",
                )
            if acted:  # else another process was quicker
                answer["applied"].append({"id": one.revision, "sha256": described(one)["sha256"]})
            if watch is not None:
                self.look(watch.after)
                answer["objections"] = watch.objections
                answer["measured"] = [*answer.get("measured", ()), *({"revision": one.revision, **part} for part in watch.longest())]

    def pending(self, present: list[str]) -> list[Any]:
        strange = [name for name in present if not known(self.script, name)]
        if strange:
            raise Refused(
                f"the database is at revision {told(strange)}, which this image does not know",
                "it was applied by a newer or another release: release a version that carries it, or go back with `greenroom rollback`, "
                "which leaves the schema as it is",
            )
        applied = ancestors(self.script, present)
        return [one for one in list(self.script.walk_revisions())[::-1] if one.revision not in applied]

    def require_reviewed(self, pending: list[Any], reviewed: dict[str, str] | None) -> None:
        for one in pending if reviewed is not None else []:
            if (reviewed or {}).get(one.revision) != described(one)["sha256"]:
                raise Refused(
                    f"revision {one.revision} is pending here, and nobody has looked at it",
                    "release the commit again under a new version: the revisions that are pending in each environment are read then",
                )

    def apply(self, name: str, act: Any, is_open: Any = None) -> bool:
        """Whether it did anything. What was only busy is tried again; after a lost connection the database is asked what was done:
        `is_open` tells whether it still has to be, by default whether the revision is pending.
        """
        is_open = is_open or (lambda: self.lacks(name))
        self.guard.begin_revision()
        while True:
            self.tries += 1
            try:
                act()
            except (Late, HalfDone) as ended:
                raise Refused(f"revision {name}: {ended}", "wait for it, or look what holds it up") from None
            except Exception as broken:  # noqa: BLE001  what may be tried again is told by its code
                acted, code = self.guard.failed(), sqlstate_of(broken)
                if code in TRY_AGAIN and self.guard.left > 0:
                    print(f"revision {name}: {first_line(broken)}; try {self.tries}, again in a moment", flush=True)  # noqa: T201
                elif code in TRY_AGAIN:
                    raise self.no_lock(name) from None
                elif is_gone(broken) and self.guard.left > 0:
                    print(f"revision {name}: the connection was lost; what was done is read from the database", flush=True)  # noqa: T201
                    self.guard.rest()
                    if not is_open():
                        return acted
                else:
                    raise Refused(
                        f"revision {name} fails: {first_line(broken)}{f' (SQLSTATE {code})' if code else ''}",
                        "correct the revision; its transaction was taken back",
                    ) from None
                self.guard.try_again()
                self.guard.rest()
            else:
                return self.guard.has_acted

    def lacks(self, name: str) -> bool:
        return name in {one.revision for one in self.pending(self.until_it_answers())}

    def no_lock(self, name: str) -> Refused:
        held: list[Any] = []
        self.look(lambda bind: held.extend(bind.exec_driver_sql(_HOLDERS).fetchall()))
        who = ", ".join(f"process {pid} in a transaction for {age} s" for pid, age in held) or "sessions that come and go"
        return Refused(
            f"revision {name} got no lock in {time.monotonic() - self.began:.0f} s and {self.tries} tries: {who}",
            "end that transaction, or try in a quieter hour; its transaction was taken back",
        )

    def until_it_answers(self) -> list[str]:
        """The revisions that the database notes, by a new connection."""
        while True:
            try:
                return self.present()
            except Late as ended:
                raise Refused(str(ended), "wait for it, or look what holds it up") from None
            except Exception as broken:
                if not is_gone(broken) or self.guard.left <= 0:
                    raise
                self.guard.rest()

    def present(self) -> list[str]:
        return self.look(lambda _bind: None)

    def look(self, ask: Any) -> list[str]:
        """The revisions that the database notes; `ask` gets the connection of the application's own env.py."""
        found: list[str] = []

        def noted(revision: Any, context: Any) -> list[Any]:
            found.extend([revision] if isinstance(revision, str) else revision or ())
            ask(context.connection)
            return []

        with EnvironmentContext(self.config, self.script, fn=noted, dont_mutate=True):
            self.script.run_env()
        return sorted(found)


# ---- telling


def told_of(broken: BaseException) -> Refused:
    return driver_trouble(broken) or Refused(
        f"Alembic fails: {type(broken).__name__}: {first_line(broken)}", "run `alembic current` in the image and mend what it names"
    )


def driver_trouble(broken: BaseException | None) -> Refused | None:
    while broken is not None:
        missing = isinstance(broken, ModuleNotFoundError) and broken.name in ("psycopg2", "psycopg", "asyncpg", "pg8000", "greenlet")
        if missing or _DRIVER.search(str(broken)) or type(broken).__name__ in ("NoSuchModuleError", "MissingGreenlet"):
            return Refused(
                f"Alembic cannot use the database's driver in this image: {first_line(broken)}",
                "an async driver needs Alembic's async env.py (`alembic init -t async`); else name one in the URL that the image has, "
                "for instance postgresql+psycopg://",
            )
        broken = broken.__cause__ or broken.__context__
    return None


def is_gone(broken: BaseException | None) -> bool:
    """Did the connection break, or was there none? A refusal has a code of its own."""
    code = sqlstate_of(broken)
    if code:
        return code.startswith(_GONE)
    while broken is not None:
        named = type(broken).__name__ in ("OperationalError", "InterfaceError", "ConnectionDoesNotExistError")
        if getattr(broken, "connection_invalidated", False) or isinstance(broken, OSError) or named:
            return not isinstance(broken, ImportError)
        broken = broken.__cause__ or broken.__context__
    return False


def first_line(broken: BaseException) -> str:
    """The driver's own sentence, without SQLAlchemy's parameters and links."""
    inner = getattr(broken, "orig", None) or broken
    lines = [line.strip() for line in str(inner).splitlines() if line.strip()]
    return re.sub(r"^<class '[^']*'>: ", "", lines[0])[:300] if lines else type(inner).__name__


def told(names: list[str]) -> str:
    return " and ".join(names) or "nothing"
