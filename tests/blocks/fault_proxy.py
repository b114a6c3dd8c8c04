"""A small HTTP proxy in front of a real server that answers some requests itself, wrongly, as often as a test wants."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive"}


@dataclass
class Fault:
    """The next `times` requests of `method` whose path matches get `status` in place of the server's answer, or, with status 0, the
    server's own answer: `seconds` later, and with `cut_after` only so many bytes of its body before the connection ends.
    """

    method: str
    path: str
    status: int
    times: int
    headers: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0
    cut_after: int | None = None


@dataclass
class FaultProxy:
    """Listens at `address`, forwards to `upstream` (host:port), keeps what was asked."""

    upstream: str
    address: str = ""
    faults: list[Fault] = field(default_factory=list)
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    leaving: threading.Event = field(default_factory=threading.Event)

    def fault_for(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and re.fullmatch(fault.method, method) and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, proxy: FaultProxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def forward(self) -> None:
        body, proxy = self._body(), self.server.proxy
        fault = proxy.fault_for(self.command, self.path)
        if fault and fault.seconds:
            proxy.leaving.wait(fault.seconds)
        if fault and fault.status:
            status, headers, answer = fault.status, [("Content-Length", "0"), *fault.headers], b""
        else:
            status, headers, answer = self._ask(body)
        with proxy.lock:
            proxy.asked.append((self.command, self.path, status))
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if fault and fault.cut_after is not None:
            answer, self.close_connection = answer[: fault.cut_after], True
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = forward  # noqa: N815  the names http.server looks for

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = HTTPConnection(self.server.proxy.upstream, timeout=60)
        # The Host stays ours, so that the addresses which the server answers with lead through here as well.
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        connection.request(self.command, self.path, body=body, headers={**headers, "Content-Length": str(len(body))})
        answer = connection.getresponse()
        content = answer.read()
        passed = [(name, value) for name, value in answer.getheaders() if name.lower() not in {*HOP_BY_HOP, "content-length"}]
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        connection.close()
        return answer.status, [*passed, ("Content-Length", length or "0")], content

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def fault_proxy(upstream: str) -> Iterator[FaultProxy]:
    proxy = FaultProxy(upstream)
    server = _Server(proxy)
    proxy.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.leaving.set()
        server.shutdown()
        server.server_close()
        thread.join()
