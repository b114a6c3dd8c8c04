"""`python -m dealbrain.serve`: uvicorn, leaving in two steps.

On SIGTERM the server first answers with `Connection: close` for a moment while it
still accepts, so that nobody keeps a connection that is about to go; then it stops
accepting and finishes what is in flight.
"""

import gc
import logging
import os
import time
from types import FrameType

import uvicorn

from dealbrain.app import create_app
from dealbrain.settings import Settings


class Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, state: object, notice: float) -> None:
        super().__init__(config)
        self._state, self._notice = state, notice
        self._leaving_since: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal gives notice, a second one ends at once.

        The signal is not kept for later: a clean end is exit code 0.
        """
        if self._leaving_since is not None:
            self.should_exit = True
            return
        self._leaving_since = time.monotonic()
        self._state.leaving = True  # type: ignore[attr-defined]

    async def on_tick(self, counter: int) -> bool:
        since = self._leaving_since
        if since is not None and time.monotonic() - since >= self._notice:
            self.should_exit = True
        return await super().on_tick(counter)


def main() -> None:
    settings = Settings.read()
    logging.basicConfig(
        level=settings.log_level,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    app = create_app(settings)
    # What is loaded now stays: no collection need look through it, the last one at
    # exit included, which takes longer than all else in leaving.
    gc.freeze()
    config = uvicorn.Config(
        app,
        host=os.environ.get("API_HOST", "127.0.0.1"),
        port=int(os.environ.get("API_PORT", "8000")),
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=30,
    )
    Server(config, app.state, settings.drain_notice_seconds).run()


if __name__ == "__main__":
    main()
