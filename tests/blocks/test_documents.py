import json
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.documents import canonical, event_of, fingerprint, from_document
from delivery.application import Smoke
from delivery.approval import Approval
from delivery.check import CheckResult
from delivery.environment import Environment, Identity
from delivery.errors import DeliveryError
from delivery.health import Counters
from delivery.inspection_settings import InspectionSettings, InspectionWaiver
from delivery.journal import Closed, Ending, Event, Evidence, Finished, Opened, Promoted, Started, TurnedBack
from delivery.plan import Plan
from delivery.release import Release
from delivery.triggers import Trigger
from tests.delivery.samples import a_plan, a_release, an_environment

VALUES: list[Any] = [
    a_release(),
    a_release("1.1.0-main.3"),
    replace(a_release(), smoke=(Smoke("api", "/a", method="PUT", body={"key": "{unique}", "of": [1, {"a": None}]}), Smoke("api", "/b"))),
    a_plan(),
    a_plan(blue=None),
    replace(a_plan(kind="hotfix"), request=7),
    an_environment(),
    replace(
        an_environment(),
        inspection=InspectionSettings(waiver=(InspectionWaiver(rule="csp", reason="old", owner="Ann", until=date(2026, 5, 1)),)),
    ),
    replace(an_environment(), trigger=(Trigger("cpu", 0.9, 300),), variables={"PUBLIC_URL": "https://ä.example"}),
    Counters({200: 4.0, 503: 1.0}, {0.1: 2.0, float("inf"): 5.0}),
    CheckResult("ruff", passed=False, seconds=0.5, tail=("a.py:1:1: F401",)),
    Approval("Bob", "approve", "seen", "ui", datetime(2025, 11, 20, 12, 30, 1, 234567, tzinfo=UTC)),
]


@pytest.mark.parametrize("value", VALUES, ids=[f"{type(value).__name__}-{index}" for index, value in enumerate(VALUES)])
def test_a_value_comes_back_exactly(value: Any) -> None:
    there_and_back = from_document(type(value), json.loads(canonical(value)))
    assert there_and_back == value
    assert canonical(there_and_back) == canonical(value)


EVENTS: list[Event] = [
    Opened(a_plan(), by="ann"),
    Started("prepare", attempt=2),
    Finished("check", Evidence(well=False, summary="api answered version 1.4.1, expected 1.4.2.", facts={"rows": [[0.5, None, "x"]]})),
    TurnedBack("cancelled"),
    Promoted("v1.1.0-aaaaaaaa"),
    Closed(Ending.ROLLED_BACK, "Production is back on v1.0.0."),
]


@pytest.mark.parametrize("event", EVENTS, ids=[type(event).__name__ for event in EVENTS])
def test_an_event_carries_its_name_and_comes_back_exactly(event: Event) -> None:
    document = json.loads(canonical(event))
    assert document["event"] == type(event).__name__
    assert event_of(document) == event


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(facts=st.dictionaries(st.text(), json_values, max_size=4), summary=st.text())
def test_whatever_a_step_found_comes_back_exactly(facts: dict[str, object], summary: str) -> None:
    event = Finished("check", Evidence(well=True, summary=summary, facts=facts))
    assert event_of(json.loads(canonical(event))) == event


@given(facts=st.dictionaries(st.text(), json_values, max_size=4), data=st.data())
def test_equal_values_have_one_text_whatever_the_order_of_their_keys(facts: dict[str, object], data: st.DataObject) -> None:
    shuffled = {key: facts[key] for key in data.draw(st.permutations(list(facts)))}
    one, other = (Evidence(well=True, summary="", facts=each) for each in (facts, shuffled))
    assert canonical(one) == canonical(other)
    assert fingerprint(one) == fingerprint(other)


def test_a_whole_number_where_a_share_belongs_does_not_change_the_fingerprint() -> None:
    assert fingerprint(Trigger("cpu", 1, 300)) == fingerprint(Trigger("cpu", 1.0, 300.0))


def test_the_text_is_compact_sorted_utf_8() -> None:
    assert canonical({"b": 1, "a": ["ä", None, True]}) == '{"a":["ä",null,true],"b":1}'
    assert fingerprint({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_what_json_has_no_word_for_is_still_recorded() -> None:
    facts = {"nan": float("nan"), "inf": float("inf"), "at": datetime(2025, 1, 1, tzinfo=UTC), "half": "\udcff", "other": object}
    document = json.loads(canonical(Evidence(well=True, summary="", facts=facts)))["facts"]
    assert (document["nan"], document["inf"], document["half"]) == (None, None, "?")
    assert document["at"] == "2025-01-01T00:00:00Z"
    assert "object" in document["other"]


@pytest.mark.parametrize(
    ("kind", "document", "told"),
    [
        (Plan, {}, "A stored Plan cannot be read: environment: Field required"),
        (Environment, {"environment": {"name": "p", "target": "t", "colour": "blue"}}, "environment.colour"),
        (Identity, {"name": 7, "target": "t"}, "name: Input should be a valid string"),
        (Release, [], "A stored Release cannot be read: document"),
    ],
)
def test_a_document_of_another_shape_is_refused(kind: type, document: Any, told: str) -> None:
    with pytest.raises(DeliveryError) as refused:
        from_document(kind, document)
    assert told in refused.value.what


def test_the_plan_of_a_rollout_from_before_there_were_inspections_can_be_read() -> None:
    plan = a_plan()
    document = json.loads(canonical(plan))
    del document["environment"]["inspection"], document["environment"]["prove"]["inspect"]
    assert from_document(Plan, document) == plan


@pytest.mark.parametrize("document", [{"event": "Exploded"}, {"step": "prepare", "attempt": 1}])
def test_an_event_of_an_unknown_kind_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(DeliveryError, match="unknown kind"):
        event_of(document)


def test_a_smoke_request_of_a_release_that_knew_only_reading_reads() -> None:
    document = json.loads(canonical(Smoke("api", "/api/listings")))
    older = {key: document[key] for key in ("service", "path", "status", "contains")}
    assert from_document(Smoke, older) == Smoke("api", "/api/listings", method="GET")
