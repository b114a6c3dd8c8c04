"""The smallest application that behaves: a web service that drains, and a worker that finishes its job. Standard library only.

ROLE=web serves port 8000; ROLE=worker takes one job after another. Paths: /health, / (who answers), /slow?seconds=3,
/peer (asks http://api:8000/ of its own colour), /say?text=… (prints), /busy (how many
slow ones it is answering), /sick (is sick from now on), /crash.

ERRS=1: every other answer is a 500, but of /health. HEALTH_SECONDS=5: /health takes so long once users have come.
"""

import asyncio
import contextlib
import json
import os
import pathlib
import signal
import socket
import time
import urllib.parse
import urllib.request

VERSION = os.environ.get("VERSION", "0.0.0")
READY = pathlib.Path("/tmp/ready")  # noqa: S108  in a container of its own
ERRS = os.environ.get("ERRS") == "1"
HEALTH_SECONDS = float(os.environ.get("HEALTH_SECONDS", "0"))
JOB_SECONDS = float(os.environ.get("JOB_SECONDS", "1"))


class Web:
    def __init__(self) -> None:
        self.draining = asyncio.Event()
        self.connections: set[asyncio.StreamWriter] = set()
        self.busy = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self.slow = 0
        self.sick = False
        self.users = 0

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.draining.set)
        await asyncio.sleep(float(os.environ.get("START_SECONDS", "0")))
        server = await asyncio.start_server(self.talk, "0.0.0.0", 8000, backlog=512)  # noqa: S104  in a container of its own
        print(f"version {VERSION} serves", flush=True)
        await self.draining.wait()
        server.close()
        await self.idle.wait()
        for connection in self.connections:
            connection.close()
        print("all requests are answered", flush=True)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(writer)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self.answer_one(reader, writer):
                    pass
        finally:
            self.connections.discard(writer)
            writer.close()

    async def answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.busy += 1
        self.idle.clear()
        try:
            length = next((int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length:")), 0)
            await reader.readexactly(length)
            url = urllib.parse.urlsplit(head.split(" ", 2)[1])
            asked = dict(urllib.parse.parse_qsl(url.query))
            status, said = await self.answer(url.path, asked)
            body = json.dumps(said).encode()
            last = self.draining.is_set()
            writer.write(
                f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                f"Connection: {'close' if last else 'keep-alive'}\r\n\r\n".encode()
                + body
            )
            await writer.drain()
            return not last
        finally:
            self.busy -= 1
            if not self.busy:
                self.idle.set()

    async def answer(self, path: str, asked: dict[str, str]) -> tuple[int, dict[str, object]]:
        me: dict[str, object] = {"version": VERSION, "host": socket.gethostname(), "path": path}
        if path.endswith("/health"):
            await asyncio.sleep(HEALTH_SECONDS if self.users else 0)
            said = {**me, "status": "healthy", "database": "connected"}
            return (503, {**said, "database": "disconnected"}) if self.sick else (200, said)
        self.users += 1
        if ERRS and self.users % 2:
            return 500, me
        if path.endswith("/slow"):
            self.slow += 1
            await asyncio.sleep(float(asked["seconds"]))
            self.slow -= 1
        elif path.endswith("/peer"):
            return 200, {**me, "peer": await asyncio.to_thread(ask_api)}
        elif path.endswith("/say"):
            print(asked["text"], flush=True)
        elif path.endswith("/busy"):
            return 200, {**me, "slow": self.slow}
        elif path.endswith("/sick"):
            self.sick = True
        elif path.endswith("/crash"):
            os._exit(3)
        return 200, me


def ask_api() -> object:
    with urllib.request.urlopen("http://api:8000/", timeout=3) as answer:
        return json.load(answer)["version"]


def work() -> None:
    leaving = False

    def leave(*_: object) -> None:
        nonlocal leaving
        leaving = True

    signal.signal(signal.SIGTERM, leave)
    READY.touch()
    print("takes jobs", flush=True)
    while not leaving:
        print("began a job", flush=True)
        until = time.monotonic() + JOB_SECONDS
        while time.monotonic() < until:
            time.sleep(0.02)
        print("finished a job", flush=True)
    READY.unlink()
    print("left", flush=True)


if __name__ == "__main__":
    if os.environ.get("ROLE") == "worker":
        work()
    else:
        asyncio.run(Web().serve())
