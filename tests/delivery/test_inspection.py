from dataclasses import replace
from datetime import date
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from delivery.application import Exposition, Service, Smoke
from delivery.environment import ApprovalPolicy
from delivery.inspection import blind_spot, is_own_network, scan_of
from delivery.inspection_questions import (
    MOST_REQUESTS,
    NO_SUCH_PAGE,
    STRANGER,
    Aim,
    Answered,
    Encryption,
    Question,
    Silent,
    Trouble,
    first_questions,
    maps_of,
    next_hop,
    pages_of,
)
from delivery.inspection_settings import KNOWN_PRIVATE, MOST_PRIVATE, InspectionSettings, InspectionWaiver
from delivery.scan import Finding, NotScanned, Scanned, Severity
from tests.samples import a_release, an_environment

PUBLIC = "https://deals.example"
TRUSTED = Encryption(days_left=90)
GOOD = {
    "content-type": "text/html; charset=utf-8",
    "strict-transport-security": "max-age=31536000",
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "strict-origin-when-cross-origin",
}
RULE_OF = {
    "strict-transport-security": {"hsts"},
    "content-security-policy": {"csp", "framing"},
    "x-content-type-options": {"nosniff"},
    "referrer-policy": {"referrer-policy"},
}


def page(headers: dict[str, str] | None = None, *, body: str = "", **changes: str) -> Answered:
    said = {**(GOOD if headers is None else headers), **{name.replace("_", "-"): value for name, value in changes.items()}}
    return Answered(Question("GET", "/", Aim.PAGE), 200, tuple(said.items()), body)


def answer(aim: Aim, path: str, status: int = 200, body: str = "", *, method: str = "GET", **headers: str) -> Answered:
    return Answered(Question(method, path, aim), status, tuple((name.replace("_", "-"), value) for name, value in headers.items()), body)


def found(*answers: Answered | Silent, url: str = PUBLIC, encryption: Encryption | None = TRUSTED) -> tuple[Finding, ...]:
    scan = scan_of(url, answers or (page(),), encryption, InspectionSettings())
    assert isinstance(scan, Scanned), scan
    return scan.findings


def rules(*answers: Answered | Silent, url: str = PUBLIC, encryption: Encryption | None = TRUSTED) -> set[str]:
    return {finding.rule for finding in found(*answers, url=url, encryption=encryption)}


# ---- headers


def test_a_sound_page_gives_no_finding() -> None:
    assert rules(page()) == set()


@given(st.sets(st.sampled_from(sorted(RULE_OF))))
def test_each_header_that_is_removed_gives_its_own_findings(removed: set[str]) -> None:
    left = {name: value for name, value in GOOD.items() if name not in removed}
    assert rules(page(left)) == {rule for name in removed for rule in RULE_OF[name]}


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("strict-transport-security", "max-age=3600", "hsts"),
        ("strict-transport-security", "nonsense", "hsts"),
        ("x-content-type-options", "sniff", "nosniff"),
        ("referrer-policy", "unsafe-url", "referrer-policy"),
        ("content-security-policy", "frame-ancestors 'none'", "csp"),
        ("content-security-policy", "default-src 'self'", "framing"),
        ("content-security-policy", "default-src 'self'; frame-ancestors *", "framing"),
        ("content-security-policy", "default-src *; frame-ancestors 'none'", "csp-any-script"),
        ("content-security-policy", "script-src 'unsafe-inline'; frame-ancestors 'none'", "csp-any-script"),
        ("server", "nginx/1.18.0", "server-version"),
        ("x-powered-by", "PHP", "powered-by"),
        ("set-cookie", "id=1; HttpOnly; SameSite=Lax", "cookie-secure"),
        ("set-cookie", "id=1; Secure; SameSite=Lax", "cookie-httponly"),
        ("set-cookie", "id=1; Secure; HttpOnly", "cookie-samesite"),
        ("set-cookie", "id=1; Secure; HttpOnly; SameSite=Whatever", "cookie-samesite"),
    ],
)
def test_a_header_that_says_too_little_or_too_much_is_named(name: str, value: str, rule: str) -> None:
    assert rules(page({**GOOD, name: value})) == {rule}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-frame-options", "DENY"),
        ("content-security-policy", "script-src 'sha256-abc' 'unsafe-inline'; frame-ancestors 'self'"),
        ("content-security-policy", "default-src 'self', frame-ancestors 'none'"),
        ("server", "nginx"),
        ("set-cookie", "id=1; Secure; HttpOnly; SameSite=None"),
    ],
)
def test_a_header_that_is_good_enough_is_none(name: str, value: str) -> None:
    assert rules(page({**GOOD, name: value})) == set()


def test_only_pages_that_are_read_as_html_need_a_policy_for_scripts() -> None:
    headers = {"content-type": "application/json", "x-content-type-options": "nosniff", "strict-transport-security": "max-age=31536000"}
    assert rules(page(headers)) == set()


def test_the_second_cookie_is_looked_at_as_well() -> None:
    sound = "a=1; Secure; HttpOnly; SameSite=Lax"
    two = Answered(page().question, 200, (*GOOD.items(), ("set-cookie", sound), ("set-cookie", "b=2; Secure; SameSite=Lax")))
    (finding,) = found(two)
    assert (finding.rule, finding.message) == ("cookie-httponly", "lets scripts read the cookie b")


def test_over_plain_http_no_header_is_asked_for_that_browsers_would_pass_over() -> None:
    plain = {name: value for name, value in GOOD.items() if name != "strict-transport-security"}
    cookie = "id=1; HttpOnly; SameSite=Lax"
    assert rules(page({**plain, "set-cookie": cookie}), url="http://127.0.0.1:8080", encryption=None) == set()
    assert rules(page({**plain, "set-cookie": "id=1; HttpOnly; SameSite=None"}), url="http://127.0.0.1:8080", encryption=None) == {
        "cookie-secure"
    }


# ---- the address


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("http://127.0.0.1:8080", True),
        ("http://localhost", True),
        ("http://[::1]:80", True),
        ("http://10.1.2.3", True),
        ("http://192.168.0.7:81", True),
        ("http://8.8.8.8", False),
        ("http://staging.deals.example", False),
        ("http://localhost.deals.example", False),
    ],
)
def test_plain_http_is_a_finding_unless_nobody_stands_between(url: str, own: bool) -> None:  # noqa: FBT001
    assert is_own_network(url) is own
    assert rules(page(), url=url, encryption=None) == (set() if own else {"not-encrypted"})


@pytest.mark.parametrize(
    ("encryption", "expected"),
    [
        (Encryption(days_left=14), set()),
        (Encryption(days_left=13.9), {"certificate-ends-soon"}),
        (Encryption(trouble=Trouble.EXPIRED), {"certificate-expired"}),
        (Encryption(trouble=Trouble.NAME), {"certificate-name"}),
        (Encryption(trouble=Trouble.UNTRUSTED), {"certificate-untrusted"}),
        (Encryption(days_left=90, old_version="TLSv1.1"), {"old-tls"}),
    ],
)
def test_what_is_wrong_with_the_encryption_has_a_name(encryption: Encryption, expected: set[str]) -> None:
    assert rules(page(), encryption=encryption) == expected


def test_encryption_that_could_not_be_looked_at_is_not_scanned() -> None:
    scan = scan_of(PUBLIC, [page()], Encryption(unknown="this machine cannot offer protocols below TLS 1.2"), InspectionSettings())
    assert scan == NotScanned("this machine cannot offer protocols below TLS 1.2")


# ---- pages that show too much


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ("Traceback (most recent call last):\n  File", "stack-trace"),
        ("<pre>Error: x<br> &nbsp; at get (/srv/app/dist/app.js:12:5)</pre>", "stack-trace"),
        ("java.lang.Error\n\tat com.deals.App.get(App.java:12)", "stack-trace"),
        ("goroutine 1 [running]:", "stack-trace"),
        ("PHP Fatal error: Uncaught Exception", "stack-trace"),
        ("<title>x // Werkzeug Debugger</title>", "debug-page"),
        ("because you have <code>DEBUG = True</code>", "debug-page"),
    ],
)
def test_errors_that_show_the_inside_are_named_wherever_they_stand(body: str, rule: str) -> None:
    for aim in (Aim.UNKNOWN, Aim.MALFORMED, Aim.PAGE):
        status = 200 if aim is Aim.PAGE else 500
        said = page(body=body) if aim is Aim.PAGE else answer(aim, "/x", status, body)
        assert rules(page(), said) == {rule}


@pytest.mark.parametrize(
    "body", ["We met at noon in app.js, see you.", "Trace back the parcel", "Index of prices", '{"detail":"Not Found"}']
)
def test_harmless_words_are_no_finding(body: str) -> None:
    assert rules(page(body=body), answer(Aim.UNKNOWN, "/x", 404, body)) == set()


def test_a_private_path_is_a_finding_by_how_much_it_tells() -> None:
    told = found(page(), *(answer(Aim.PRIVATE, path) for path in ("/.env", "/docs", "/our-own")), answer(Aim.PRIVATE, "/admin", 401))
    assert [(one.place, one.severity) for one in told] == [
        ("GET /.env", Severity.CRITICAL),
        ("GET /docs", Severity.MEDIUM),
        ("GET /our-own", Severity.HIGH),
    ]


def test_an_application_that_answers_everything_with_its_front_page_shows_no_private_path() -> None:
    fallback = answer(Aim.UNKNOWN, f"/{NO_SUCH_PAGE}", body=f"front page of /{NO_SUCH_PAGE}")
    assert rules(page(), fallback, answer(Aim.PRIVATE, "/docs", body="front page of /docs")) == set()
    assert rules(page(), fallback, answer(Aim.PRIVATE, "/docs", body="Swagger")) == {"private-path"}
    missing = answer(Aim.UNKNOWN, f"/{NO_SUCH_PAGE}", 404, "the same")
    assert rules(page(), missing, answer(Aim.PRIVATE, "/docs", body="the same")) == {"private-path"}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (answer(Aim.TRACE, "/", body="TRACE / x-inspection: greenroom-inspection", method="TRACE"), {"trace"}),
        (answer(Aim.TRACE, "/", 405, body="greenroom-inspection", method="TRACE"), set()),
        (answer(Aim.FOLDER, "/static/", body="<title>Index of /static/</title>"), {"directory-listing"}),
        (answer(Aim.FOLDER, "/static/", 403, body="<title>Index of /static/</title>"), set()),
        (answer(Aim.MAP, "/app.js.map", body='{"version":3}'), {"source-map"}),
        (answer(Aim.MAP, "/app.js.map", body="<!doctype html>", content_type="text/html"), set()),
    ],
)
def test_methods_folders_and_scripts_that_tell_are_named(said: Answered, expected: set[str]) -> None:
    assert rules(page(), said) == expected


@pytest.mark.parametrize(
    ("origin", "credentials", "expected"),
    [
        (STRANGER, "true", {"cors-credentials"}),
        (STRANGER, "", set()),
        ("*", "true", set()),  # browsers refuse that pair
        ("https://deals.example", "true", set()),
    ],
)
@pytest.mark.parametrize("aim", [Aim.ORIGIN, Aim.PREFLIGHT])
def test_whoever_asks_being_allowed_everything_is_a_finding(aim: Aim, origin: str, credentials: str, expected: set[str]) -> None:
    said = answer(aim, "/api", access_control_allow_origin=origin, access_control_allow_credentials=credentials)
    assert rules(page(), said) == expected


def test_nothing_that_was_answered_is_repeated_in_a_finding() -> None:
    secret = "hunter2"
    leaky = page(
        {**GOOD, "set-cookie": f"id={secret}", "server": f"x/{secret}9", "x-powered-by": secret}, body=f"{secret} goroutine 1 [running]"
    )
    told = found(leaky, answer(Aim.PRIVATE, "/.env", body=f"PASSWORD={secret}"))
    assert len(told) > 5
    assert secret not in " ".join(finding.sentence() for finding in told)


# ---- what was not answered


@pytest.mark.parametrize(
    "missing",
    [
        Silent(Question("GET", "/", Aim.PAGE), "ConnectError"),
        Silent(Question("GET", "/metrics", Aim.PRIVATE), "ReadTimeout"),
        Silent(Question("GET", "/metrics", Aim.PRIVATE), "RemoteProtocolError", hung_up=True),
        Silent(Question("TRACE", "/", Aim.TRACE), "ReadTimeout"),
        answer(Aim.PRIVATE, "/metrics", 500),
        answer(Aim.UNKNOWN, "/x", 503),
        answer(Aim.PAGE, "/", 500),
    ],
)
def test_a_question_without_an_answer_of_the_application_is_not_scanned(missing: Answered | Silent) -> None:
    scan = scan_of(PUBLIC, [page({}), missing], Encryption(days_left=90), InspectionSettings())
    assert isinstance(scan, NotScanned)
    assert missing.question.place in scan.reason


def test_to_hang_up_on_a_strange_method_is_a_refusal() -> None:
    assert blind_spot([page(), Silent(Question("TRACE", "/", Aim.TRACE), "RemoteProtocolError", hung_up=True)]) == ""


def test_an_environment_that_shows_no_page_at_all_is_not_scanned() -> None:
    assert blind_spot([answer(Aim.PAGE, "/", 404)]) == "no page of the application was answered with a page"


# ---- what is asked


def test_where_people_approve_nothing_is_asked_that_a_browser_would_not() -> None:
    release = a_release(smoke=(Smoke("api", "/api/listings?limit=1"),))
    asked = first_questions(release, InspectionSettings(), provokes=False)
    assert {one.method for one in asked} == {"GET"}
    assert {one.aim for one in asked} == {Aim.PAGE, Aim.ORIGIN}
    assert {one.path for one in asked} == {"/", "/api/listings?limit=1", "/health"} == {*pages_of(release)}


def test_only_methods_that_change_nothing_are_used_and_never_too_many() -> None:
    services = tuple(Service(f"s{n}", "web", ".", "D", port=1, routes=(f"/s{n}",), health=f"/s{n}/up") for n in range(60))
    images = dict.fromkeys((one.name for one in services), next(iter(a_release().images.values())))
    private = tuple(f"/p{n}" for n in range(MOST_PRIVATE))
    asked = first_questions(a_release(services=services, images=images), InspectionSettings(private=private), provokes=True)
    assert {one.method for one in asked} == {"GET", "OPTIONS", "TRACE"}
    assert len(asked) == len({*asked}) <= MOST_REQUESTS


def test_where_services_tell_their_metrics_is_private_without_being_named() -> None:
    api = replace(a_release().services[0], metrics=Exposition("/told"))
    asked = first_questions(a_release(services=(api, a_release().services[1])), InspectionSettings(private=()), provokes=True)
    assert [one.path for one in asked if one.aim is Aim.PRIVATE] == ["/told"]


def test_the_parameters_that_a_page_knows_get_values_of_no_type() -> None:
    asked = first_questions(a_release(smoke=(Smoke("api", "/api/listings?limit=1&from="),)), InspectionSettings(), provokes=True)
    assert "/api/listings?limit=%27%FF&from=%27%FF" in [one.path for one in asked if one.aim is Aim.MALFORMED]


@pytest.mark.parametrize(
    ("aim", "path", "location", "expected"),
    [
        (Aim.PAGE, "/", "/home", "/home"),
        (Aim.PAGE, "/", "https://deals.example/home?x=1", "/home?x=1"),
        (Aim.PAGE, "/", "https://elsewhere.example/", None),
        (Aim.PAGE, "/", "http://deals.example/", None),
        (Aim.PAGE, "/", "//elsewhere.example/", None),
        (Aim.PRIVATE, "/admin", "/admin/", "/admin/"),
        (Aim.PRIVATE, "/admin", "/admin/start", "/admin/start"),
        (Aim.PRIVATE, "/admin", "/login?next=/admin", None),
        (Aim.PRIVATE, "/admin", "/administration", None),
        (Aim.UNKNOWN, "/x", "/y", None),
    ],
)
def test_redirects_lead_to_the_same_place_or_nowhere(aim: Aim, path: str, location: str, expected: str | None) -> None:
    assert next_hop(Question("GET", path, aim), 302, location, url=PUBLIC, at=path) == expected


def test_the_maps_of_a_page_s_own_scripts_are_looked_for() -> None:
    body = "<script src=/app.js></script><script defer src='lib/x.js?v=1'></script><script src='https://cdn.example/y.js'></script><script>1</script>"
    assert [one.path for one in maps_of([page(body=body)], PUBLIC)] == ["/app.js.map", "/lib/x.js.map"]


@given(st.text(), st.sampled_from([Aim.PAGE, Aim.PRIVATE]))
@example("http://[", Aim.PAGE)
@example("/\x00", Aim.PAGE)
@example("////elsewhere.example", Aim.PAGE)
def test_whatever_a_page_refers_to_it_leads_to_the_same_origin_or_nowhere(reference: str, aim: Aim) -> None:
    hop = next_hop(Question("GET", "/", aim), 302, reference, url=PUBLIC, at="/")
    maps = maps_of([page(body=f"<script src='{reference}'></script>")], PUBLIC)
    for path in (*([hop] if hop else []), *(one.path for one in maps)):
        assert urlsplit(urljoin(PUBLIC, path)).netloc == "deals.example"
        assert path.isascii()
        assert path.isprintable()


# ---- settings


@pytest.mark.parametrize("path", ["metrics", "//elsewhere.example", "https://x", "/a b", "/a?b", "", "/\n", "/é"])
def test_what_is_no_path_is_refused(path: str) -> None:
    assert any("inspection.private" in problem for problem in InspectionSettings(private=(path,)).problems())
    assert InspectionSettings().problems() == ()
    assert KNOWN_PRIVATE


def test_users_get_no_strange_requests() -> None:
    automatic = an_environment("staging", approval=ApprovalPolicy("automatic"))
    approved = an_environment(approval=ApprovalPolicy("form"))
    assert (automatic.provokes, approved.provokes) == (True, False)
    assert not replace(automatic, inspection=InspectionSettings(provoke=False)).provokes
    assert any("inspection.provoke" in one for one in replace(approved, inspection=InspectionSettings(provoke=True)).problems())
    assert replace(automatic, inspection=InspectionSettings(provoke=True)).problems() == ()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"reason": " "}, "got no reason"),
        ({"owner": ""}, "got no owner"),
        ({"rule": ""}, "got no rule"),
        ({"check": "bandit"}, "inspection.waiver.check: got 'bandit'"),
        ({"rule": "not scanned", "place": "GET /"}, "got a place"),
    ],
)
def test_a_waiver_without_reason_owner_or_rule_is_refused(changes: dict[str, str], told: str) -> None:
    fields: dict[str, object] = {"rule": "csp", "reason": "old page", "owner": "Ann", "until": date(2026, 12, 1), **changes}
    assert told in " ".join(InspectionSettings(waiver=(InspectionWaiver(**fields),)).problems())  # type: ignore[arg-type]
