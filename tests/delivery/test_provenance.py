import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delivery.dsse import IN_TOTO, Envelope, NotProven, Signature, read_envelope, signed_bytes
from delivery.provenance import Build, ProvenancePolicy, objections, provenance_of
from delivery.statement import Statement, statement_in
from tests.samples import a_release
from tests.signing import BUILD, REPOSITORY, a_source, provenance

RELEASE = a_release("1.2.3")
POLICY = ProvenancePolicy(repository=REPOSITORY, builder=BUILD.builder, branch="main")
ENVELOPE = Envelope(IN_TOTO, provenance(RELEASE).written(), (Signature("k", b"s"),))


def test_what_is_signed_is_the_encoding_of_the_specifications_example() -> None:
    assert signed_bytes("http://example.com/HelloWorld", b"hello world") == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_lengths_are_counted_in_bytes() -> None:
    assert signed_bytes("é", "ü".encode()) == b"DSSEv1 2 \xc3\xa9 2 \xc3\xbc"


@settings(max_examples=30, deadline=None)
@given(kind=st.text(max_size=20), payload=st.binary(max_size=50), key=st.text(max_size=9), value=st.binary(min_size=1, max_size=40))
def test_an_envelope_is_read_as_it_was_written(kind: str, payload: bytes, key: str, value: bytes) -> None:
    try:
        kind.encode(), key.encode()
    except UnicodeEncodeError:
        return
    envelope = Envelope(kind, payload, (Signature(key, value),))
    assert read_envelope(envelope.written()) == envelope


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"payload":"","payloadType":"x","signatures":[]}',
        b'{"payload":"?","payloadType":"x","signatures":[{"sig":"AA=="}]}',
        b'{"payload":"","payloadType":7,"signatures":[{"sig":"AA=="}]}',
        b'{"payload":"","payloadType":"x","payloadType":"y","signatures":[{"sig":"AA=="}]}',
        b'{"payload":"","payloadType":"x","signatures":[{"sig":null}]}',
        b"[" * 100_000,
        b" " * (1024 * 1024 + 1),
    ],
)
def test_what_is_no_envelope_proves_nothing(data: bytes) -> None:
    with pytest.raises(NotProven):
        read_envelope(data)


@pytest.mark.parametrize(
    "change",
    [
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"subject": []},
        {"subject": [{"name": "api", "digest": {"sha256": "sha256:" + "0" * 64}}]},
        {"subject": [{"name": "api", "digest": {"sha512": "0" * 64}}]},
        {"predicateType": None},
        {"predicate": []},
    ],
)
def test_what_is_no_statement_proves_nothing(change: dict[str, object]) -> None:
    payload = json.dumps({**json.loads(ENVELOPE.payload), **change}).encode()
    with pytest.raises(NotProven):
        statement_in(replace(ENVELOPE, payload=payload))


def test_only_an_in_toto_payload_is_a_statement() -> None:
    with pytest.raises(NotProven):
        statement_in(replace(ENVELOPE, payload_type="application/json"))


def test_the_provenance_says_who_built_what_from_which_commit_with_which_parameters() -> None:
    document = json.loads(provenance(RELEASE).written())
    assert document["_type"] == "https://in-toto.io/Statement/v1"
    assert document["predicateType"] == "https://slsa.dev/provenance/v1"
    assert document["subject"] == [{"name": "127.0.0.1:5000/dealbrain-api", "digest": {"sha256": "0" * 64}}]
    definition, details = document["predicate"]["buildDefinition"], document["predicate"]["runDetails"]
    assert definition["externalParameters"] == {
        "repository": REPOSITORY,
        "commit": str(RELEASE.sha),
        "branch": "main",
        "version": "1.2.3",
        "service": "api",
        "context": ".",
        "dockerfile": "Dockerfile",
    }
    assert definition["resolvedDependencies"] == [
        {"uri": f"git+{REPOSITORY}", "digest": {"gitCommit": str(RELEASE.sha)}},
        {"uri": "docker:python:3.11-slim", "digest": {"sha256": "b" * 64}},
    ]
    assert details["builder"] == {"id": "urn:greenroom:builder"}
    assert details["metadata"] == {"invocationId": "urn:uuid:7", "startedOn": "2026-07-01T10:00:00Z", "finishedOn": "2026-07-01T10:00:00Z"}


def test_a_login_in_the_repositorys_address_is_never_signed() -> None:
    source = a_source(RELEASE, "https://robot:hunter2@example.org/shop.git")
    written = provenance(RELEASE, source=source).written()
    assert b"hunter2" not in written
    assert objections(provenance(RELEASE, source=source), RELEASE, "api", POLICY) == ()


def test_provenance_as_the_policy_wants_it_has_nothing_against_it() -> None:
    assert objections(provenance(RELEASE), RELEASE, "api", POLICY) == ()


OTHER_IMAGE = replace(RELEASE, images={**RELEASE.images, "api": replace(RELEASE.images["api"], digest="sha256:" + "1" * 64)})


def other(build: Build = BUILD, **source: object) -> Statement:
    made = replace(a_source(RELEASE), **source)  # type: ignore[arg-type]
    return provenance_of(RELEASE.images["api"], RELEASE.service("api"), RELEASE.version, made, build)


@pytest.mark.parametrize(
    ("statement", "objection"),
    [
        (provenance(OTHER_IMAGE), "it is about sha256:1111"),
        (replace(provenance(RELEASE), predicate_type="https://example.org/x"), "it is no provenance but https://example.org/x"),
        (other(replace(BUILD, builder="urn:laptop")), "builder: got urn:laptop, expected urn:greenroom:builder"),
        (other(repository="https://example.org/fork.git"), "repository: got https://example.org/fork.git, expected https://example.org/sh"),
        (other(sha=a_release("9.9.9").sha), "commit: got 999a"),
        (other(on_main=False), "branch: got nothing, expected main"),
        (provenance(replace(RELEASE, version=a_release("1.0.0").version)), "version: got 1.0.0, expected 1.2.3"),
        (provenance(RELEASE, "worker"), "service: got worker, expected api"),
        (replace(provenance(RELEASE), predicate={}), "build type: got nothing"),
        (replace(provenance(RELEASE), predicate={"buildDefinition": [], "runDetails": "x"}), "build type: got nothing"),
    ],
)
def test_provenance_of_something_else_is_told_apart(statement: Statement, objection: str) -> None:
    assert any(one.startswith(objection) for one in objections(statement, RELEASE, "api", POLICY))


def test_a_policy_without_a_branch_takes_any() -> None:
    assert objections(other(on_main=False), RELEASE, "api", replace(POLICY, branch="")) == ()


@pytest.mark.parametrize("keys", [(), ("../release.pub",), ("a/b",), ("",)])
def test_a_policy_whose_keys_cannot_be_meant_is_refused(keys: tuple[str, ...]) -> None:
    assert [problem.partition(":")[0] for problem in ProvenancePolicy(keys=keys).problems()] == ["provenance.keys"]


def test_who_asks_for_nothing_needs_no_key() -> None:
    assert ProvenancePolicy(required=False, keys=()).problems() == ()
