"""Bytes carried between two connections, for the few that reached a process just when it died."""

import contextlib
import select
import socket
import threading

_CHUNK = 65_536
_SILENCE_SECONDS = 180.0
_MOST = 256
_places = threading.BoundedSemaphore(_MOST)


def relay(arrived: socket.socket, to: tuple[str, int]) -> None:
    """Carries on what an accepted connection says to `to`, and back, in a thread of its own until both ends have said all, or neither
    says anything for three minutes. With too many under way, or nobody at `to`, the connection is closed.
    """
    places = _places
    if not places.acquire(blocking=False):
        arrived.close()
        return
    threading.Thread(target=_carry, args=(arrived, to, places), name="relay", daemon=True).start()


def _carry(arrived: socket.socket, to: tuple[str, int], places: threading.BoundedSemaphore) -> None:
    try:
        # A connection that breaks ends both: what was to be said has nobody to hear it.
        with contextlib.suppress(OSError), arrived, socket.create_connection(to, timeout=_SILENCE_SECONDS) as onward:
            arrived.settimeout(_SILENCE_SECONDS)
            _carry_between(arrived, onward)
    finally:
        places.release()


def _carry_between(one: socket.socket, other: socket.socket) -> None:
    hears = {one: other, other: one}
    while hears:
        ready = select.select([*hears], [], [], _SILENCE_SECONDS)[0]
        if not ready:
            return
        for speaker in ready:
            if said := speaker.recv(_CHUNK):
                hears[speaker].sendall(said)
            else:
                hears.pop(speaker).shutdown(socket.SHUT_WR)
