"""Is an expression the same for every row of a table? PostgreSQL then stores it once and touches no row."""

import itertools
from collections.abc import Sequence
from enum import Enum, auto

from delivery.sql import Token, as_written


class Volatility(Enum):
    SAME_FOR_ALL = auto()
    VOLATILE = auto()
    UNKNOWN = auto()


# Immutable or stable functions of PostgreSQL (pg_proc.provolatile i or s), and syntax that looks like a call.
_SAME_FOR_ALL = frozenset({
    "now", "transaction_timestamp", "statement_timestamp", "date_trunc", "to_timestamp", "to_date", "to_char", "make_date",
    "make_interval",
    "timezone", "age", "extract", "date_part", "lower", "upper", "initcap", "concat", "concat_ws", "length", "trim", "btrim", "replace",
    "repeat", "substr", "substring", "left", "right", "md5", "sha256", "encode", "decode", "format", "abs", "round", "floor", "ceil",
    "ceiling",
    "coalesce", "nullif", "greatest", "least", "row", "array", "cast", "json_build_object", "jsonb_build_object", "json_build_array",
    "jsonb_build_array", "to_json", "to_jsonb", "array_fill", "string_to_array", "to_tsvector", "current_setting", "current_schema",
    "localtimestamp", "localtime", "current_timestamp", "current_time", "int4range", "int8range", "tsrange", "tstzrange", "daterange",
    "numeric", "decimal", "varchar", "char", "bit", "timestamp", "timestamptz", "time", "interval", "character", "varying",
})  # fmt: skip
_VOLATILE = frozenset({
    "gen_random_uuid", "uuid_generate_v1", "uuid_generate_v1mc", "uuid_generate_v4", "uuidv4", "uuidv7", "gen_random_bytes", "random",
    "clock_timestamp", "timeofday", "nextval", "currval", "lastval", "setval", "txid_current", "pg_current_xact_id", "gen_salt",
    "random_normal",
})  # fmt: skip


def volatility(expression: Sequence[Token]) -> Volatility:
    """By the functions that it calls; one that is not known may be anything."""
    called = {
        token.value
        for token, following in itertools.pairwise(expression)
        if token.kind in ("word", "quoted") and following.kind == "symbol" and following.value == "("
    }
    if called & _VOLATILE:
        return Volatility.VOLATILE
    return Volatility.SAME_FOR_ALL if called <= _SAME_FOR_ALL else Volatility.UNKNOWN


def shown(expression: Sequence[Token]) -> str:
    """As written, in one line."""
    return " ".join(as_written(expression).split())[:120]
