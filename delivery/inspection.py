"""What the answers of a running environment mean: findings, each with its place and the way to mend it, or that it was not scanned.

The rules follow the OWASP HTTP Headers Cheat Sheet and the OWASP Secure Headers Project. Nothing of a body, of a cookie's value or of an
address is repeated in a finding: what lies open to everybody may be a secret.
"""

import re
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from delivery.inspection_headers import of_headers
from delivery.inspection_questions import MARK, STRANGER, Aim, Answered, Encryption, Silent, Trouble
from delivery.inspection_settings import KNOWN_PRIVATE, TOOL, UNKNOWN_PRIVATE, InspectionSettings
from delivery.scan import Finding, NotScanned, Scan, Scanned, Severity

# Places of findings that belong to no single request.
ADDRESS, CERTIFICATE = "the public address", "the certificate"
_NOBODY_BEHIND = (502, 503, 504)

_SHOWN: tuple[tuple[re.Pattern[str], str, Severity, str], ...] = (
    (
        re.compile(r"Werkzeug Debugger|__debugger__=yes"),
        "debug-page",
        Severity.CRITICAL,
        "Werkzeug's debugger, which may run what one types",
    ),
    (re.compile(r"<code>DEBUG = True</code>|Using the URLconf defined in"), "debug-page", Severity.HIGH, "Django's debug page"),
    (re.compile(r"Action Controller: Exception caught|Whoops, looks like something"), "debug-page", Severity.HIGH, "a debug page"),
    (re.compile(r"Traceback \(most recent call last\)"), "stack-trace", Severity.HIGH, "a Python stack trace"),
    (re.compile(r"\bat [^\n<]{0,200}?\.[cm]?[jt]s:\d+:\d+"), "stack-trace", Severity.HIGH, "a JavaScript stack trace"),
    (re.compile(r"\bat [\w.$]{1,200}\([\w$]{1,80}\.(?:java|kt|scala):\d+\)"), "stack-trace", Severity.HIGH, "a Java stack trace"),
    (re.compile(r"goroutine \d+ \[running\]"), "stack-trace", Severity.HIGH, "a Go stack trace"),
    (re.compile(r"Fatal error: Uncaught|Stack trace:\s*(?:<br />)?\s*#0 "), "stack-trace", Severity.HIGH, "a PHP stack trace"),
)
_LISTING = re.compile(r"<title>\s*Index of /|<h1>\s*Index of /|<title>\s*Directory listing for ", re.IGNORECASE)
_TROUBLES = {
    Trouble.EXPIRED: ("certificate-expired", "is expired, or not valid yet", "renew it, and have the renewal watched"),
    Trouble.NAME: ("certificate-name", "belongs to another name", "get one for the name in public_url"),
    Trouble.UNTRUSTED: (
        "certificate-untrusted",
        "comes from an authority that this machine does not trust, or its chain is not complete",
        "serve the whole chain; an authority of your own belongs into this machine's store (SSL_CERT_FILE)",
    ),
}


def scan_of(url: str, answers: Sequence[Answered | Silent], encryption: Encryption | None, settings: InspectionSettings) -> Scan:
    """What all answers say together. `encryption` belongs to an https address, None to a plain one."""
    unseen = blind_spot(answers) or (encryption.unknown if encryption else "")
    if unseen:
        return NotScanned(unseen)
    answered = [one for one in answers if isinstance(one, Answered)]
    found = list(_of_the_address(url, encryption, settings))
    found += [finding for answer in answered if answer.question.aim is Aim.PAGE for finding in of_headers(answer, encryption is not None)]
    found += [finding for answer in answered for finding in _of_bodies_and_methods(answer)]
    found += _reachable(answered)
    return Scanned(tuple(dict.fromkeys(found)))


def blind_spot(answers: Sequence[Answered | Silent]) -> str:
    """Why these answers do not tell enough, in one sentence; "" when each question was answered by the application."""
    unasked = [told for answer in answers if (told := unanswered(answer))]
    if unasked:
        return unasked[0] + (f", and {len(unasked) - 1} more" if unasked[1:] else "")
    pages = (one for one in answers if isinstance(one, Answered) and one.question.aim is Aim.PAGE)
    return "" if any(page.status < 400 for page in pages) else "no page of the application was answered with a page"


def unanswered(answer: Answered | Silent) -> str:
    """Why this is no answer of the application, in one sentence; "" when it is one. To hang up on a strange request is one, too."""
    question = answer.question
    if isinstance(answer, Silent):
        refuses = answer.hung_up and question.aim in (Aim.TRACE, Aim.MALFORMED)
        return "" if refuses else f"{question.place} was not answered ({answer.reason})"
    is_broken = answer.status >= 500 and question.aim in (Aim.PAGE, Aim.PRIVATE)
    return f"{question.place} answered {answer.status}" if is_broken or answer.status in _NOBODY_BEHIND else ""


def is_own_network(url: str) -> bool:
    """Whether the address is this machine or a private network by its number, or localhost. Other names are taken for public ones."""
    host = urlsplit(url).hostname or ""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_private


def _of_the_address(url: str, encryption: Encryption | None, settings: InspectionSettings) -> Iterator[Finding]:
    if encryption is None:
        if not is_own_network(url):
            yield Finding(
                TOOL, "not-encrypted", Severity.HIGH, ADDRESS, "is plain http", "serve https, redirect http there, and give public_url so"
            )
        return
    if encryption.trouble is not None:
        rule, message, fix = _TROUBLES[encryption.trouble]
        yield Finding(TOOL, rule, Severity.HIGH, CERTIFICATE, message, fix)
    elif encryption.days_left is not None and encryption.days_left < settings.certificate_days:
        told = f"ends in {encryption.days_left:.1f} days, expected {settings.certificate_days:g} or more"
        yield Finding(TOOL, "certificate-ends-soon", Severity.MEDIUM, CERTIFICATE, told, "renew it, and have the renewal watched")
    if encryption.old_version:
        told = f"accepts {encryption.old_version}, which has been broken for years (RFC 8996)"
        yield Finding(TOOL, "old-tls", Severity.HIGH, ADDRESS, told, "accept TLS 1.2 and 1.3 alone")


def _of_bodies_and_methods(answer: Answered) -> Iterator[Finding]:
    place, question = answer.question.place, answer.question
    for pattern, rule, severity, shown in _SHOWN:
        if pattern.search(answer.body):
            yield Finding(TOOL, rule, severity, place, f"shows {shown}", "switch debugging off, and answer errors with a plain page")
            break
    if answer.is_success and _LISTING.search(answer.body):
        yield Finding(TOOL, "directory-listing", Severity.MEDIUM, place, "lists the files of a folder", "switch listings off in the server")
    if question.aim is Aim.TRACE and answer.is_success and (MARK in answer.body or "message/http" in (answer.header("content-type") or "")):
        yield Finding(TOOL, "trace", Severity.MEDIUM, place, "gives requests back, cookies included", "refuse TRACE")
    if question.aim is Aim.MAP and answer.is_success and answer.body.lstrip().startswith("{") and not answer.is_html:
        told = "is the source map of a script: the source can be read by everybody"
        yield Finding(TOOL, "source-map", Severity.MEDIUM, place, told, "do not ship source maps, or keep them from users")
    if question.aim in (Aim.ORIGIN, Aim.PREFLIGHT) and _shares_with_strangers(answer):
        told = "lets pages of any site read it with the visitor's cookies"
        yield Finding(TOOL, "cors-credentials", Severity.HIGH, place, told, "name the origins that may, instead of repeating what is asked")


def _shares_with_strangers(answer: Answered) -> bool:
    credentials = (answer.header("access-control-allow-credentials") or "").strip().lower()
    return answer.header("access-control-allow-origin") == STRANGER and credentials == "true"


def _reachable(answers: Sequence[Answered]) -> Iterator[Finding]:
    """Private paths that are answered. An application that answers every path with its front page (as one that routes in the browser
    does) is asked for a page that is not there, and what it answers so is none.
    """
    fallbacks = {_without_path(answer) for answer in answers if answer.question.aim is Aim.UNKNOWN and answer.is_success}
    for answer in answers:
        if answer.question.aim is Aim.PRIVATE and answer.is_success and _without_path(answer) not in fallbacks:
            severity = KNOWN_PRIVATE.get(answer.question.path, UNKNOWN_PRIVATE)
            fix = "route it to nobody, or ask for a login; those who need it ask each replica at its own address"
            yield Finding(TOOL, "private-path", severity, answer.question.place, "is answered to everybody", fix)


def _without_path(answer: Answered) -> tuple[int, str]:
    return answer.status, answer.body.replace(answer.question.path, "")
