"""An application with an address of its own that is sound until a test gives it flaws, over http or https."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

GOOD_HEADERS = {
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Set-Cookie": "session=s3cret-value; Secure; HttpOnly; SameSite=Lax",
}
PAGE = "<!doctype html><title>Deals</title><script src='/app.js'></script>"
TRACEBACK = 'Traceback (most recent call last):\n  File "/srv/app.py", line 7, in get\nZeroDivisionError: division by zero\n'

# Each flaw with the rule that names it.
FLAWS = {
    "no csp": "csp",
    "any script": "csp-any-script",
    "framed": "framing",
    "guessed": "nosniff",
    "tells referrers": "referrer-policy",
    "cookie for scripts": "cookie-httponly",
    "cookie for other sites": "cookie-samesite",
    "tells its server": "server-version",
    "tells its maker": "powered-by",
    "any origin": "cors-credentials",
    "any origin before sending": "cors-credentials",
    "traces": "trace",
    "404 with traceback": "stack-trace",
    "malformed with traceback": "stack-trace",
    "werkzeug": "debug-page",
    "django": "debug-page",
    "docs": "private-path",
    "admin behind a slash": "private-path",
    "own secret path": "private-path",
    "replica's metrics": "private-path",
    "listing": "directory-listing",
    "source map": "source-map",
}


@dataclass
class FlawedServer:
    """`flaws` may change while it serves. `seen` are the requests so far, as `METHOD path`; `recognised` how many brought a cookie."""

    url: str = ""
    flaws: set[str] = field(default_factory=set)
    seen: list[str] = field(default_factory=list)
    without: set[str] = field(default_factory=set)
    recognised: int = 0

    def headers(self) -> dict[str, str]:
        found = {name: value for name, value in GOOD_HEADERS.items() if name not in self.without}
        for flaw, name in (
            ("no csp", "Content-Security-Policy"),
            ("guessed", "X-Content-Type-Options"),
            ("tells referrers", "Referrer-Policy"),
        ):
            if flaw in self.flaws:
                found.pop(name, None)
        if "no csp" in self.flaws:
            found["X-Frame-Options"] = "DENY"
        if "any script" in self.flaws:
            found["Content-Security-Policy"] = "default-src 'self'; script-src * 'unsafe-inline'; frame-ancestors 'none'"
        if "framed" in self.flaws:
            found["Content-Security-Policy"] = "default-src 'self'"
        if "cookie for scripts" in self.flaws:
            found["Set-Cookie"] = "session=s3cret-value; Secure; SameSite=Lax"
        if "cookie for other sites" in self.flaws:
            found["Set-Cookie"] = "session=s3cret-value; Secure; HttpOnly"
        if "tells its server" in self.flaws:
            found["Server"] = "nginx/1.18.0"
        if "tells its maker" in self.flaws:
            found["X-Powered-By"] = "Express"
        return found

    def answer(self, method: str, path: str, origin: str | None, echo: str) -> tuple[int, dict[str, str], str]:  # noqa: C901, PLR0911, PLR0912  one arm per flaw
        flaws, plain, (bare, _, query) = self.flaws, {"Content-Type": "text/plain"}, path.partition("?")
        shares = {"Access-Control-Allow-Origin": origin or "", "Access-Control-Allow-Credentials": "true"} if origin else {}
        if method == "TRACE" and "hangs up on strange methods" in flaws:
            return 0, {}, ""
        if method == "TRACE":
            return (200, {"Content-Type": "message/http"}, echo) if "traces" in flaws else (405, plain, "no")
        if method == "OPTIONS":
            return 204, shares if "any origin before sending" in flaws else {}, ""
        if "silent" in flaws and bare == "/health":
            return 0, {}, ""
        if "nobody behind" in flaws and bare == "/metrics":
            return 503, plain, "no server"
        if "malformed with traceback" in flaws and ("%FF" in bare or "%FF" in query):
            return 500, plain, TRACEBACK
        if "front page for everything" in flaws and bare not in ("/", "/health"):
            return 200, {"Content-Type": "text/html"}, PAGE
        if "login for everything" in flaws and bare not in ("/", "/health", "/login"):
            return 302, {"Location": f"/login?next={bare}"}, ""
        if bare == "/login":
            return 200, {"Content-Type": "text/html", **self.headers()}, "who are you?"
        if "moved" in flaws and bare == "/":
            return 302, {"Location": "https://elsewhere.invalid/", **self.headers()}, ""
        if bare == "/":
            return 200, {"Content-Type": "text/html; charset=utf-8", **self.headers(), **(shares if "any origin" in flaws else {})}, PAGE
        if bare == "/health":
            return (
                200,
                {"Content-Type": "application/json", "X-Content-Type-Options": "nosniff", "Strict-Transport-Security": "max-age=31536000"},
                "{}",
            )
        open_paths = {
            "/docs": "docs",
            "/admin/": "admin behind a slash",
            "/inside": "own secret path",
            "/told": "replica's metrics",
        }
        if open_paths.get(bare, "-") in flaws:
            return 200, plain, "DATABASE_URL=postgresql://ann:s3cret-value@db"
        if bare == "/admin" and "admin behind a slash" in flaws:
            return 301, {"Location": "/admin/"}, ""
        if bare == "/static/" and "listing" in flaws:
            return 200, {"Content-Type": "text/html"}, "<html><title>Index of /static/</title></html>"
        if bare == "/app.js.map" and "source map" in flaws:
            return 200, {"Content-Type": "application/json"}, '{"version":3,"sources":["app.ts"]}'
        for flaw, body in (
            ("404 with traceback", TRACEBACK),
            ("werkzeug", "<title>KeyError // Werkzeug Debugger</title>"),
            ("django", "You're seeing this error because you have <code>DEBUG = True</code>"),
        ):
            if flaw in flaws:
                return 404, {"Content-Type": "text/html"}, body
        return 404, plain, "there is nothing here"


@contextmanager
def flawed_server(*flaws: str, tls: ssl.SSLContext | None = None) -> Iterator[FlawedServer]:
    """Serves on loopback while the block runs, with these flaws."""
    place = FlawedServer(flaws={*flaws})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # an answer in one piece, which nobody delays

        def answer(self) -> None:
            place.seen.append(f"{self.command} {self.path}")
            place.recognised += "Cookie" in self.headers
            status, headers, body = place.answer(self.command, self.path, self.headers.get("Origin"), str(self.headers))
            if not status:
                self.close_connection = True
                return
            content = body.encode()
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content if status != 204 else b"")

        do_GET = do_HEAD = do_OPTIONS = do_TRACE = answer  # noqa: N815  the names are the library's

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that refuses the certificate is no news."""

        def finish_request(self, request: object, client_address: object) -> None:
            """The handshake is the thread's own, so that one who makes none keeps nobody waiting."""
            if tls is not None:
                request = tls.wrap_socket(request, server_side=True)  # type: ignore[arg-type]
            super().finish_request(request, client_address)  # type: ignore[arg-type]

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    place.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    try:
        yield place
    finally:
        server.shutdown()
        server.server_close()


class Authority:
    """A certificate authority of a test's own; `file` is what a machine that trusts it has in its store."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "An authority")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=365))
            .not_valid_after(now + timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = folder / "authority.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def context(self, *, days: float = 90, name: str = "127.0.0.1", old: bool = False) -> ssl.SSLContext:
        """What a server presents: a certificate for `name` that ends in `days`; with `old` it speaks TLS 1.0 and 1.1 too."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        names: list[x509.GeneralName] = [x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name)]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=30))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        file = self._folder / "server.pem"
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        if old:
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = ssl.TLSVersion.TLSv1  # in a test that expects the warning
        return context
