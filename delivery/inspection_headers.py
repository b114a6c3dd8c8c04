"""What the headers of one page lack, and what they tell too much. Sources: the OWASP HTTP Headers Cheat Sheet; RFC 6797 (HSTS), RFC 6265bis
(cookies), CSP Level 3.
"""

import re
from collections.abc import Iterator

from delivery.inspection_questions import Answered
from delivery.inspection_settings import TOOL
from delivery.scan import Finding, Severity

LEAST_HSTS_SECONDS = 15_552_000  # 180 days
_MAX_AGE = re.compile(r"max-age\s*=\s*\"?(\d+)", re.IGNORECASE)
_TELLING_REFERRERS = ("unsafe-url", "no-referrer-when-downgrade")
_NUMBER = re.compile(r"\d")
_LONGEST_NAME = 60


def of_headers(answer: Answered, is_https: bool) -> Iterator[Finding]:  # noqa: FBT001  a fact about the address, and the only one
    """A page that is not there, or elsewhere, need not have what a page has; its cookies and what it tells of its server count."""
    place = answer.question.place

    def found(rule: str, severity: Severity, message: str, fix: str) -> Finding:
        return Finding(TOOL, rule, severity, place, message, fix)

    if is_https and _hsts_seconds(answer) < LEAST_HSTS_SECONDS:
        told = "does not keep browsers on https (Strict-Transport-Security), or for too short a time"
        yield found("hsts", Severity.MEDIUM, told, "send Strict-Transport-Security: max-age=31536000; includeSubDomains")
    if answer.is_success:
        if (answer.header("x-content-type-options") or "").strip().lower() != "nosniff":
            told = "lets browsers guess what it is (X-Content-Type-Options)"
            yield found("nosniff", Severity.MEDIUM, told, "send X-Content-Type-Options: nosniff")
        if answer.is_html:
            yield from _of_a_page(answer)
    yield from _of_cookies(answer, is_https=is_https)
    server = answer.header("server") or ""
    if _NUMBER.search(server):
        yield found(
            "server-version", Severity.LOW, "tells the version of its server (Server)", "send Server without a version, or not at all"
        )
    told_by = [name for name in ("x-powered-by", "x-aspnet-version", "x-aspnetmvc-version", "x-generator") if answer.header(name)]
    if told_by:
        yield found("powered-by", Severity.LOW, f"tells what it is made with ({', '.join(told_by)})", f"do not send {', '.join(told_by)}")


def _of_a_page(answer: Answered) -> Iterator[Finding]:
    place = answer.question.place
    policy = _directives(answer.header("content-security-policy") or "")
    scripts = policy.get("script-src", policy.get("default-src"))
    if scripts is None:
        told = "does not say which scripts may run in it (Content-Security-Policy)"
        yield Finding(TOOL, "csp", Severity.MEDIUM, place, told, "send Content-Security-Policy with at least default-src 'self'")
    elif _allows_any(scripts):
        told = "lets any script run in it (Content-Security-Policy with * or 'unsafe-inline')"
        yield Finding(TOOL, "csp-any-script", Severity.LOW, place, told, "name scripts by their hash or a nonce")
    ancestors = policy.get("frame-ancestors")
    framed = (answer.header("x-frame-options") or "").strip().lower()
    if (ancestors is None or "*" in ancestors) and framed not in ("deny", "sameorigin"):
        told = "may be shown inside of anybody's page (frame-ancestors, X-Frame-Options)"
        yield Finding(TOOL, "framing", Severity.MEDIUM, place, told, "add frame-ancestors 'none' to Content-Security-Policy")
    referrer = (answer.header("referrer-policy") or "").lower()
    if not referrer.strip() or any(word in referrer for word in _TELLING_REFERRERS):
        told = "does not limit what other sites learn of the address (Referrer-Policy)"
        yield Finding(TOOL, "referrer-policy", Severity.LOW, place, told, "send Referrer-Policy: strict-origin-when-cross-origin")


def _of_cookies(answer: Answered, *, is_https: bool) -> Iterator[Finding]:
    """Over plain http a browser would not keep a cookie that is for https alone, so none is asked for there."""
    for cookie in answer.cookies:
        head, *rest = cookie.split(";")
        name = "".join(one if one.isalnum() or one in "-_." else "?" for one in head.split("=")[0].strip()[:_LONGEST_NAME])
        has = {part.split("=")[0].strip().lower(): part.partition("=")[2].strip().lower() for part in rest}
        place = answer.question.place
        if "secure" not in has and (is_https or has.get("samesite") == "none"):
            told = f"sets the cookie {name} for plain http too"
            yield Finding(TOOL, "cookie-secure", Severity.MEDIUM, place, told, "give the cookie Secure")
        if "httponly" not in has:
            yield Finding(
                TOOL, "cookie-httponly", Severity.MEDIUM, place, f"lets scripts read the cookie {name}", "give the cookie HttpOnly"
            )
        if has.get("samesite") not in ("lax", "strict", "none"):
            told = f"does not say whether other sites' pages may send the cookie {name}"
            yield Finding(TOOL, "cookie-samesite", Severity.MEDIUM, place, told, "give the cookie SameSite=Lax or Strict")


def _hsts_seconds(answer: Answered) -> int:
    found = _MAX_AGE.search(answer.header("strict-transport-security") or "")
    return int(found[1][:12]) if found else 0


def _directives(policy: str) -> dict[str, tuple[str, ...]]:
    """Of several the first counts, as in browsers."""
    found: dict[str, tuple[str, ...]] = {}
    for words in (part.lower().split() for part in policy.replace(",", ";").split(";")):
        if words:
            found.setdefault(words[0], tuple(words[1:]))
    return found


def _allows_any(sources: tuple[str, ...]) -> bool:
    """A hash or a nonce makes browsers pass over 'unsafe-inline'."""
    named = any(source.startswith(("'nonce-", "'sha256-", "'sha384-", "'sha512-")) for source in sources)
    return any(source in ("*", "http:", "https:", "data:") for source in sources) or ("'unsafe-inline'" in sources and not named)
