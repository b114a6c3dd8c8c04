"""An OCI 1.1 registry with the referrers API over real HTTP, as far as manifests and blobs go. Debian's has no such API."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class ReferringRegistry(ThreadingHTTPServer):
    """`elsewhere` makes it ask for uploads at another host."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.tags: dict[str, str] = {}
        self.elsewhere = ""

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def referrers(self, digest: str) -> list[dict[str, Any]]:
        found = []
        for name, (kind, data) in self.manifests.items():
            manifest = json.loads(data)
            if manifest.get("subject", {}).get("digest") == digest:
                entry = {"mediaType": kind, "digest": name, "size": len(data), "artifactType": manifest["artifactType"]}
                found.append({**entry, "annotations": manifest["annotations"]})
        return found


class _Answers(BaseHTTPRequestHandler):
    server: ReferringRegistry
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = urlsplit(self.path)
        repository, _, last = asked.path.rpartition("/")
        what = repository.rpartition("/")[2]
        if what == "uploads" or asked.path.endswith("/uploads/"):
            self._upload(body, parse_qs(asked.query))
        elif what == "blobs":
            self._give(self.server.blobs.get(last), "application/octet-stream")
        elif what == "referrers":
            index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": self.server.referrers(last)}
            self._give(json.dumps(index).encode(), index["mediaType"])  # type: ignore[arg-type]
        elif self.command == "PUT":
            self._put_manifest(last, body)
        else:
            kind, data = self.server.manifests.get(self.server.tags.get(last, last), ("", None))
            self._give(data, kind)

    do_GET = do_PUT = do_POST = do_HEAD = handle_any  # noqa: N815

    def _upload(self, body: bytes, query: dict[str, list[str]]) -> None:
        if self.command == "POST":
            host = self.server.elsewhere or self.server.host
            return self.answer(202, headers={"Location": f"http://{host}{self.path}7?_state=a%20b"})
        assert query["_state"] == ["a b"]
        assert query["digest"] == [_digest(body)]
        self.server.blobs[_digest(body)] = body
        return self.answer(201)

    def _put_manifest(self, reference: str, body: bytes) -> None:
        digest, document = _digest(body), json.loads(body)
        needed = [document[key] for key in ("config",) if key in document] + document.get("layers", [])
        if any(one["digest"] not in self.server.blobs for one in needed):
            return self.answer(400)
        self.server.manifests[digest] = (self.headers["Content-Type"], body)
        if reference != digest:
            self.server.tags[reference] = digest
        headers = {"Docker-Content-Digest": digest}
        if "subject" in document:
            headers["OCI-Subject"] = document["subject"]["digest"]
        return self.answer(201, headers=headers)

    def _give(self, data: bytes | None, kind: str) -> None:
        self.answer(404) if data is None else self.answer(200, data, {"Content-Type": kind})

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@contextmanager
def referring_registry() -> Iterator[ReferringRegistry]:
    server = ReferringRegistry()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
