"""The little application with a database behind it.

/order?id=… is acknowledged once PostgreSQL has it (and is never tried twice); /poll?seconds=… is a long poll, which ends early when its
replica is to leave. SAYS is printed when a replica starts to serve.
"""

import asyncio
import contextlib
import os
import threading

import psycopg
from app import VERSION, Web, work  # type: ignore[import-not-found]  # beside it in the image


class Orders(Web):  # type: ignore[misc]  # as above
    def __init__(self) -> None:
        super().__init__()
        self.connection: psycopg.Connection[tuple[object, ...]] | None = None
        self.one_at_a_time = threading.Lock()

    async def answer(self, path: str, asked: dict[str, str]) -> tuple[int, dict[str, object]]:
        if path.endswith("/order") and not await asyncio.to_thread(self.keep, asked["id"]):
            return 503, {"version": VERSION, "path": path}
        if path.endswith("/poll"):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.draining.wait(), float(asked["seconds"]))
        status, said = await super().answer(path, asked)
        return status, said

    def keep(self, order: str) -> bool:
        with self.one_at_a_time:
            try:
                if self.connection is None:
                    self.connection = psycopg.connect(os.environ["ORDERS_DSN"], autocommit=True, connect_timeout=3)
                self.connection.execute("INSERT INTO orders (id, version) VALUES (%s, %s)", (order, VERSION))
            except psycopg.Error:
                # Nobody knows whether the order is there: it is not acknowledged, and not tried again.
                self.connection = None
                return False
            return True


if __name__ == "__main__":
    if os.environ.get("ROLE") == "worker":
        work()
    else:
        print(os.environ.get("SAYS", "a little application with orders"), flush=True)  # noqa: T201  a container's log
        asyncio.run(Orders().serve())
