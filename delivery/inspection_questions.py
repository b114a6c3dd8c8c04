"""What the outside of a running environment is asked, as data: only by methods that change nothing, and never more than a bounded number.

What the answers mean stands in `delivery/inspection.py`.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import parse_qsl, quote, urljoin, urlsplit

from delivery.inspection_settings import InspectionSettings
from delivery.release import Release
from delivery.verification import endpoints

# More would be a load, not a look.
MOST_PAGES, MOST_ROUTES, MOST_MAPS, MOST_REQUESTS = 20, 10, 5, 300
FOLDERS = ("/static/", "/assets/", "/uploads/", "/files/", "/backup/")
# A site that nobody has: the name ends in a domain that is reserved (RFC 2606).
STRANGER = "https://stranger.invalid"
MARK = "greenroom-inspection"
NO_SUCH_PAGE = f"{MARK}-no-such-page"
_LONGEST_PATH = 2000
_REDIRECTS = (301, 302, 303, 307, 308)
_SCRIPT = re.compile(r"""<script\b[^>]{0,200}?\bsrc\s*=\s*["']?([^"'\s>]+)""", re.IGNORECASE)


class Aim(StrEnum):
    """Why something is asked. Everything but pages and origins provokes."""

    PAGE = "page"  # what users see, with its headers
    ORIGIN = "origin"  # the same for a page of somebody else's
    PREFLIGHT = "preflight"  # what a browser asks before it lets somebody else's page send
    TRACE = "trace"  # a method that gives a request back, cookies included
    UNKNOWN = "unknown"  # a page that is not there
    MALFORMED = "malformed"  # a request that no client of the application sends
    PRIVATE = "private"  # a path that users must not reach
    FOLDER = "folder"  # a folder that may list what is in it
    MAP = "map"  # the source of a script


@dataclass(frozen=True)
class Question:
    """One request. `path` may have a query; `headers` are sent beside the usual ones."""

    method: str
    path: str
    aim: Aim
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def place(self) -> str:
        """How findings and waivers name it: the method and the path, without its query."""
        return f"{self.method} {urlsplit(self.path).path}"


@dataclass(frozen=True)
class Answered:
    """What was said: header names in lower case, in their order; the beginning of the body as text."""

    question: Question
    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""

    def header(self, name: str) -> str | None:
        """All values of that name, as one."""
        values = [value for key, value in self.headers if key == name]
        return ", ".join(values) if values else None

    @property
    def cookies(self) -> tuple[str, ...]:
        return tuple(value for name, value in self.headers if name == "set-cookie")

    @property
    def is_html(self) -> bool:
        return (self.header("content-type") or "").split(";")[0].strip().lower() in ("text/html", "application/xhtml+xml")

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True)
class Silent:
    """No answer. `hung_up`: the connection was made and then closed, which is one way of refusing."""

    question: Question
    reason: str
    hung_up: bool = False


class Trouble(StrEnum):
    """What keeps a browser from trusting a certificate."""

    EXPIRED = "expired"
    NAME = "name"
    UNTRUSTED = "untrusted"


@dataclass(frozen=True)
class Encryption:
    """What the address's TLS showed. `days_left` is None where the certificate could not be read, which `trouble` explains then;
    `old_version` is a protocol below TLS 1.2 that it accepts, "" when it refused them; `unknown` tells what could not be looked at.
    """

    trouble: Trouble | None = None
    days_left: float | None = None
    old_version: str = ""
    unknown: str = ""


def first_questions(release: Release, settings: InspectionSettings, *, provokes: bool) -> tuple[Question, ...]:
    """What is asked whatever is answered: pages first. Without `provokes` only what any visitor's browser sends."""
    pages = pages_of(release)[:MOST_PAGES]
    asked = [Question("GET", page, Aim.PAGE) for page in pages]
    asked += [Question("GET", page, Aim.ORIGIN, (("origin", STRANGER),)) for page in pages]
    return (*asked, *(_provoking(release, settings, pages) if provokes else ()))


def pages_of(release: Release) -> tuple[str, ...]:
    """What stands for the application: its front page, its smoke requests and its health pages, as far as users reach them."""
    return tuple(dict.fromkeys(("/", *(one.path for one in endpoints(release) if one.status < 500))))


def _provoking(release: Release, settings: InspectionSettings, pages: Sequence[str]) -> Iterator[Question]:
    preflight = (("origin", STRANGER), ("access-control-request-method", "GET"))
    for page in pages:
        yield Question("OPTIONS", page, Aim.PREFLIGHT, preflight)
        yield Question("TRACE", page, Aim.TRACE, (("x-inspection", MARK),))
        yield Question("GET", _with_nonsense(page), Aim.MALFORMED)
    routes = dict.fromkeys(route.rstrip("/") for service in release.services for route in service.routes)
    for route in ("", *[one for one in routes if one][:MOST_ROUTES]):
        yield Question("GET", f"{route}/{NO_SUCH_PAGE}", Aim.UNKNOWN)
        yield Question("GET", f"{route}/%FF%FE", Aim.MALFORMED)
    told = [service.metrics.path for service in release.services if service.metrics]
    for path in dict.fromkeys((*settings.private, *told)):
        yield Question("GET", path, Aim.PRIVATE)
    yield from (Question("GET", folder, Aim.FOLDER) for folder in FOLDERS)


def _with_nonsense(page: str) -> str:
    """The page with values that are of no type: each parameter that it knows, or one that it does not."""
    path, _, query = page.partition("?")
    names = [name for name, _ in parse_qsl(query, keep_blank_values=True)] or [MARK]
    return f"{path}?{'&'.join(f'{quote(name)}=%27%FF' for name in names)}"


def maps_of(answers: Iterable[Answered | Silent], url: str) -> tuple[Question, ...]:
    """The source maps that may lie beside the scripts of the pages that were answered; a script of another origin is none of ours."""
    found: dict[str, None] = {}
    for answer in answers:
        if isinstance(answer, Answered) and answer.question.aim is Aim.PAGE and answer.is_html:
            for source in _SCRIPT.findall(answer.body):
                path = _own_path(source, url=url, at=answer.question.path)
                if path is not None:
                    found[f"{path.partition('?')[0]}.map"] = None
    return tuple(Question("GET", path, Aim.MAP) for path in found)[:MOST_MAPS]


def next_hop(question: Question, status: int, location: str | None, *, url: str, at: str) -> str | None:
    """Where a redirect is followed to, as a path; None when it is not: never to another origin, and a private path to nowhere but itself
    with a slash or what lies below, since a login page is no way in. `at` is the path that answered.
    """
    if status not in _REDIRECTS or not location or question.aim not in (Aim.PAGE, Aim.PRIVATE, Aim.FOLDER):
        return None
    path = _own_path(location, url=url, at=at)
    if path is None or (question.aim is not Aim.PAGE and not path.startswith(f"{question.path.rstrip('/')}/")):
        return None
    return path


def _own_path(reference: str, *, url: str, at: str) -> str | None:
    """Where a reference of the page `at` leads, as a path with its query; None to another origin, and where no request could be made of it,
    since what a page says may be anything.
    """
    try:
        goal, here = urlsplit(urljoin(urljoin(url, at), reference)), urlsplit(url)
    except ValueError:
        return None
    path = f"{goal.path or '/'}?{goal.query}" if goal.query else goal.path or "/"
    is_sound = (goal.scheme, goal.netloc) == (here.scheme, here.netloc) and not path.startswith("//")
    return path if is_sound and len(path) <= _LONGEST_PATH and all("!" <= one <= "~" for one in path) else None
