"""What `greenroom.toml` and the environment files may say beyond being well formed: names, paths and figures that can be meant, and no
secrets. Each rule answers with sentences `key: got …, expected …`; all of them are told at once.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import chain

from delivery.application import Application, Service
from delivery.environment import Environment
from delivery.literal_secrets import ThrownAway, looks_secret, plain_secrets, thrown_away, why_plain_secret
from delivery.triggers import Trigger

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")  # becomes part of names of containers, networks and Traefik services
ROUTE = re.compile(r"/[A-Za-z0-9._~/-]*")  # becomes part of a Traefik rule, where a backtick would end the text
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
IMAGE = re.compile(
    r"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::\d{1,5})?/)?[a-z0-9]+(?:(?:[._]|__|-+|/)[a-z0-9]+)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
BLOCK = re.compile(r"(?:[a-z0-9][a-z0-9-]*/)?[a-z0-9][a-z0-9-]*")
_REQUEST_PATH = re.compile(r"/(?!/)[!-~]*")
_LONGEST_PATH = 512
_LONGEST_PATTERN = 200
_MOST_REPLICAS = 100
_HOUR, _DAY, _MONTH = 3600, 86_400, 30 * 86_400
_SHARES = ("error_rate", "cpu", "memory", "database_lost")


def problems_of_application(application: Application) -> tuple[str, ...]:
    """Everything in a `greenroom.toml` that can be read and cannot be meant."""
    tests = thrown_away((backing.name, backing.settings) for backing in application.backing)
    return tuple(
        chain(
            _name("application.name", application.name),
            *(_service(service) for service in application.service),
            _claimed_twice(application.service),
            _bases(application.bases),
            _migrations(application),
            _backing(application),
            _tests(application, tests),
            _commands(application),
            _plain_texts(application, tests, skip=("settings",)),
        )
    )


def problems_of_environment(environment: Environment) -> tuple[str, ...]:
    """Everything in an environment file that can be read and cannot be meant."""
    who, watch, approval = environment.environment, environment.watch, environment.approval
    blocks = {"environment.target": who.target, "environment.notifier": who.notifier}
    found = [
        f"{key}: got {_shown(name)}, expected the name of a block, for instance docker-target/production"
        for key, name in blocks.items()
        if name is not None and not BLOCK.fullmatch(name)
    ]
    if approval.policy == "automatic" and approval.quorum > 1:
        found.append(f"approval.quorum: got {approval.quorum} beside policy = 'automatic', which asks nobody, expected one of the two")
    if watch.minimum_requests < 1:
        found.append(f"watch.minimum_requests: got {watch.minimum_requests}, expected 1 or more")
    if 0 < watch.interval_seconds <= watch.window_seconds < 2 * watch.interval_seconds:
        found.append(
            f"watch.window_seconds: got {watch.window_seconds:g}, expected two intervals or more: a rate needs two scrapes in its window"
        )
    found += [
        f"watch.log_patterns: got {_shown(pattern)}, expected words within one line, up to {_LONGEST_PATTERN} characters"
        for pattern in watch.log_patterns
        if pattern and (not pattern.strip() or len(pattern) > _LONGEST_PATTERN or re.search(r"[\x00\r\n]", pattern))
    ]
    found += _environment_times(environment)
    for trigger in environment.trigger:
        found += _trigger(trigger)
    found += _variables("variables", environment.variables)
    found += plain_secrets("variables", environment.variables)
    found += _plain_texts(environment, None, skip=("variables",))
    return tuple(found)


def _service(service: Service) -> Iterator[str]:
    here = f"service {service.name}"
    yield from _name(f"{here}.name", service.name)
    yield from _inside(f"{here}.context", (service.context,))
    yield from _inside(f"{here}.dockerfile", (service.dockerfile,))
    yield from _inside(f"{here}.paths", service.paths)
    if service.port is not None:
        yield from _port(f"{here}.port", service.port)
    if service.replicas > _MOST_REPLICAS:
        yield f"{here}.replicas: got {service.replicas}, expected 1 to {_MOST_REPLICAS}"
    if service.health is not None:
        yield from _request_path(f"{here}.health", service.health)
    if service.metrics is not None:
        yield from _request_path(f"{here}.metrics.path", service.metrics.path)
    for route in service.routes:
        if not ROUTE.fullmatch(route) or "//" in route or ".." in route.split("/"):
            yield f"{here}.routes: got {_shown(route)}, expected a path such as /api"
    if service.ready and not service.ready[0].strip():
        yield f"{here}.ready: got no program, expected one and its arguments"
    yield from _within(f"{here}.drain_seconds", service.drain_seconds, 0, _HOUR)
    for name in service.variables:
        if not VARIABLE.fullmatch(name):
            yield f"{here}.variables: got {_shown(name)}, expected names like DATABASE_URL"
    yield from (f"{here}.variables: got {name!r} twice, expected each name once" for name in _repeated(service.variables))
    yield from _variables(f"{here}.settings", service.settings)
    yield from plain_secrets(f"{here}.settings", service.settings)


def _claimed_twice(services: Iterable[Service]) -> Iterator[str]:
    """Two services may listen on the same port, since each replica has an address of its own; users' paths are shared by all."""
    owner: dict[str, str] = {}
    for service in services:
        for route in dict.fromkeys(service.routes):
            if owner.setdefault(route, service.name) != service.name:
                yield f"service {service.name}.routes: got {_shown(route)}, which {owner[route]} has, expected each route once"


def _bases(bases: Mapping[str, str]) -> Iterator[str]:
    yield from _variables("bases", bases)
    for argument, image in bases.items():
        yield from _image(f"bases.{argument}", image)


def _migrations(application: Application) -> Iterator[str]:
    if (migrations := application.migrations) is None:
        return
    yield from _inside("migrations.config", (migrations.config,))
    yield from _within("migrations.timeout_seconds", migrations.timeout_seconds, 1, _DAY)
    if not VARIABLE.fullmatch(migrations.database):
        yield f"migrations.database: got {_shown(migrations.database)}, expected the name of a variable, for instance DATABASE_URL"


def _backing(application: Application) -> Iterator[str]:
    names = [backing.name for backing in application.backing]
    yield from (f"backing.name: got {name!r} twice, expected each name once" for name in _repeated(names))
    services = {service.name for service in application.service}
    for backing in application.backing:
        here = f"backing {backing.name}"
        yield from _name(f"{here}.name", backing.name)
        if backing.name in services:
            yield f"{here}.name: got the name of a service, expected another one: both are hosts of one network"
        yield from _image(f"{here}.image", backing.image)
        yield from _port(f"{here}.port", backing.port)
        yield from _variables(f"{here}.settings", backing.settings)
        for name, value in backing.settings.items():  # its own password is thrown away with it
            if why := why_plain_secret(value, tests=ThrownAway(frozenset(names))):
                yield f"{here}.settings.{name}: {why}"


def _tests(application: Application, tests: ThrownAway) -> Iterator[str]:
    if (e2e := application.e2e) is not None:
        yield from _inside("e2e.directory", (e2e.directory,))
        yield from _within("e2e.timeout_seconds", e2e.timeout_seconds, 1, _DAY)
        yield from _variables("e2e.settings", e2e.settings)
        yield from plain_secrets("e2e.settings", e2e.settings, tests=tests)
    for number, smoke in enumerate(application.smoke, start=1):
        yield from _request_path(f"smoke[{number}].path", smoke.path)
        yield from _within(f"smoke[{number}].status", smoke.status, 100, 599)
    if (load := application.load) is not None:
        if not load.paths:
            yield "load.paths: got an empty list, expected one path or more"
        for path in load.paths:
            yield from _request_path("load.paths", path)
        yield from _above("load.rate", load.rate, 10_000)
        yield from _above("load.seconds", load.seconds, _HOUR)
        yield from _above("load.max_p95_ms", load.max_p95_ms, 1000 * _HOUR)
        yield from _within("load.max_failed_share", load.max_failed_share, 0, 1)


def _commands(application: Application) -> Iterator[str]:
    for check in application.check:
        here = f"check {check.name}"
        yield from _inside(f"{here}.directory", (check.directory,))
        yield from _inside(f"{here}.reads", check.reads)
        yield from _within(f"{here}.timeout_seconds", check.timeout_seconds, 1, _DAY)
        yield from _variables(f"{here}.settings", check.settings)
        yield from plain_secrets(f"{here}.settings", check.settings, tests=ThrownAway())
    for name, preset in application.presets.items():
        yield from _inside(f"presets.{name}.directory", (preset.directory,))
        yield from _inside(f"presets.{name}.reads", preset.reads)
    for name, toolchain in application.toolchains.items():
        yield from _inside(f"toolchains.{name}.reads", toolchain.reads)
        yield from _inside(f"toolchains.{name}.links", toolchain.links)
    yield from (f"hook.name: got {name!r} twice, expected each name once" for name in _repeated(hook.name for hook in application.hook))
    for hook in application.hook:
        yield from _within(f"hook {hook.name}.timeout_seconds", hook.timeout_seconds, 1, _HOUR)
        if not hook.command or not hook.command[0].strip():
            yield f"hook {hook.name}.command: got no program, expected one and its arguments"


def _environment_times(environment: Environment) -> Iterator[str]:
    traffic, watch, deadlines = environment.traffic, environment.watch, environment.deadlines
    yield from _at_most("traffic.watch_seconds", traffic.watch_seconds, _DAY)
    yield from _at_most("traffic.bake_seconds", traffic.bake_seconds, _DAY)
    yield from _at_most("traffic.hold_seconds", traffic.hold_seconds, _MONTH)
    yield from _at_most("watch.interval_seconds", watch.interval_seconds, _HOUR)
    yield from _at_most("watch.window_seconds", watch.window_seconds, _DAY)
    yield from _within("watch.blind_seconds", watch.blind_seconds, 0, _DAY)
    yield from _at_most("approval.expires_hours", environment.approval.expires_hours, 720)
    yield from _at_most("approval.escalate_hours", environment.approval.escalate_hours, 720)
    yield from _at_most("judge.look_seconds", environment.judge.look_seconds, _HOUR)
    yield from _at_most("judge.warm_up_seconds", environment.judge.warm_up_seconds, _DAY)
    yield from _at_most("verification.interval_seconds", environment.verification.interval_seconds, _DAY)
    yield from _at_most("verification.timeout_seconds", environment.verification.timeout_seconds, _HOUR)
    yield from _at_most("go.soak_seconds", environment.go.soak_seconds, _MONTH)
    for one in fields(deadlines):
        yield from _above(f"deadlines.{one.name}", getattr(deadlines, one.name), _DAY)


def _trigger(trigger: Trigger) -> Iterator[str]:
    if trigger.metric in _SHARES and not 0 <= trigger.threshold <= 1:
        yield f"trigger.threshold: got {trigger.threshold:g} for {trigger.metric}, expected a share from 0 to 1: 5 % is 0.05"
    elif trigger.metric != "gauge" and trigger.threshold < 0:
        yield f"trigger.threshold: got {trigger.threshold:g} for {trigger.metric}, expected 0 or more"
    yield from _within("trigger.for_seconds", trigger.for_seconds, 0, _DAY)
    yield from _above("trigger.max_gap_seconds", trigger.max_gap_seconds, _DAY)


def _name(key: str, name: str) -> Iterator[str]:
    if not NAME.fullmatch(name):
        yield f"{key}: got {_shown(name)}, expected up to 40 lower-case letters, digits and dashes"


def _image(key: str, image: str) -> Iterator[str]:
    if len(image) > _LONGEST_PATH or not IMAGE.fullmatch(image):
        yield f"{key}: got {_shown(image)}, expected an image such as registry.example/team/name:tag, in lower case"


def _port(key: str, port: int) -> Iterator[str]:
    yield from _within(key, port, 1, 65_535)


def _variables(key: str, settings: Mapping[str, str]) -> Iterator[str]:
    for name, value in settings.items():
        if not VARIABLE.fullmatch(name):
            yield f"{key}.{name[:80]}: got a name that no variable has, expected one like DATABASE_URL"
        if "\0" in value:
            yield f"{key}.{name[:80]}: got a NUL character, which no variable can hold, expected text"


def _inside(key: str, paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        if not path or path.startswith(("/", "-", "~")) or ".." in path.split("/") or re.search(r"[\x00-\x1f\x7f\\]", path):
            yield f"{key}: got {_shown(path)}, expected a path inside the repository"


def _request_path(key: str, path: str) -> Iterator[str]:
    steps = path.partition("?")[0].split("/")
    if len(path) > _LONGEST_PATH or not _REQUEST_PATH.fullmatch(path) or ".." in steps or "#" in path or "\\" in path:
        yield f"{key}: got {_shown(path)}, expected a path that begins with one /, without .. or spaces"


def _within(key: str, value: float, least: float, most: float) -> Iterator[str]:
    if not least <= value <= most:
        yield f"{key}: got {value:g}, expected {least:g} to {most:g}"


def _at_most(key: str, value: float, most: float) -> Iterator[str]:
    """What is too little is told where the value is declared."""
    if value > most:
        yield f"{key}: got {value:g}, expected at most {most:g}"


def _above(key: str, value: float, most: float) -> Iterator[str]:
    if not 0 < value <= most:
        yield f"{key}: got {value:g}, expected more than 0, at most {most:g}"


def _shown(value: str) -> str:
    return "what looks like a secret (not shown)" if looks_secret(value) else repr(value)[:80]


def _repeated(names: Iterable[str]) -> list[str]:
    known = list(names)
    return sorted({name for name in known if known.count(name) > 1})


def _plain_texts(value: object, tests: ThrownAway | None, *, skip: tuple[str, ...]) -> Iterator[str]:
    """Secrets in commands, paths and wherever else a text stands; `skip` are the tables that have rules of their own."""
    for place, text in _texts(value, skip, ""):
        if why := why_plain_secret(text, tests=tests):
            yield f"{place}: {why}"


def _texts(value: object, skip: tuple[str, ...], here: str) -> Iterator[tuple[str, str]]:
    """Every text inside a value, with the place where it is written."""
    match value:
        case str():
            yield here, value
        case Mapping():
            for key, inner in value.items():
                yield from _texts(inner, skip, f"{here}.{key}")
        case tuple():
            for number, inner in enumerate(value, start=1):
                name = getattr(inner, "name", None) or f"[{number}]"
                yield from _texts(inner, skip, f"{here} {name}".replace(" [", "[") if is_dataclass(inner) else here)
        case _ if is_dataclass(value):
            for one in fields(value):
                if one.name not in skip:
                    yield from _texts(getattr(value, one.name), skip, f"{here}.{one.name}".removeprefix("."))
