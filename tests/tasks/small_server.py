"""A web server for tests, on a port of its own, in a thread of its own."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def serving(
    answer: Callable[[str], tuple[int, str]] | Mapping[str, tuple[int, str]], *, heard: list[tuple[str, str, str]] | None = None
) -> Iterator[str]:
    """Serves `answer(path) -> (status, body)` while the block runs, and gives the address. Status 0 hangs up without an answer. `heard`
    gets method, path and body of each request.
    """
    respond = answer if callable(answer) else lambda path: answer.get(path, (404, "no such page"))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            said = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            if heard is not None:
                heard.append((self.command, self.path, said))
            status, body = respond(self.path)
            if not status:
                self.close_connection = True
                return
            content = body.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815  the names by which http.server finds them

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
