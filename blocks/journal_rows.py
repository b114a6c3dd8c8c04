"""How the journal's rooms read rows, keep words and speak of times."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping

from delivery.redaction import redacted

TAMPERED = "keep the database as it is, and find out who changed it; the entries before this one can be trusted."


def one(connection: Connection, query: Any) -> RowMapping | None:
    found: RowMapping | None = connection.execute(query).mappings().first()
    return found


def all_rows(connection: Connection, query: Any) -> Sequence[RowMapping]:
    found: Sequence[RowMapping] = connection.execute(query).mappings().all()
    return found


def plain(words: str) -> str:
    """What every database can keep: no NUL, no half characters."""
    return words.replace("\0", "").encode("utf-8", "replace").decode()


def told(words: str) -> str:
    """The same for what people or tools say freely: without what this process knows to be secret."""
    return redacted(plain(words))


def readable(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
