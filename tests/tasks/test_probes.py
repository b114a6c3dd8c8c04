import json
import socket

from delivery.application import Smoke
from delivery.ports import Address
from tasks.probes import smoke
from tests.tasks.small_server import serving


def test_every_replica_of_the_service_is_asked() -> None:
    with serving({"/": (200, "Deal Brain")}) as one, serving({"/": (200, "something else")}) as two:
        addresses = (Address("web", "web-1", one), Address("web", "web-2", two), Address("api", "api-1", "http://127.0.0.1:1"))
        results = smoke((Smoke("web", "/", contains="Deal Brain"),), addresses)

    assert [(result.name, result.well) for result in results] == [("smoke web-1 /", True), ("smoke web-2 /", False)]
    assert results[1].detail == "web-2 answered GET / without 'Deal Brain'; its answer begins with 'something else'."


def test_another_status_than_the_expected_one_is_told() -> None:
    with serving({"/api/listings?limit=1": (500, "oops")}) as url:
        (result,) = smoke((Smoke("api", "/api/listings?limit=1"),), (Address("api", "api-1", url),))

    assert result.detail == "api-1 answered 500 to GET /api/listings?limit=1, expected 200."


def test_a_redirect_is_an_answer_of_its_own() -> None:
    with serving({"/old": (308, "")}) as url:
        (result,) = smoke((Smoke("web", "/old", status=308),), (Address("web", "web-1", url),))

    assert result.well


def test_a_replica_that_hangs_up_once_is_asked_again() -> None:
    answers = iter([(0, ""), (200, "fine")])
    with serving(lambda _: next(answers)) as url:
        (result,) = smoke((Smoke("api", "/"),), (Address("api", "api-1", url),))

    assert result.well


def test_a_replica_that_does_not_answer_is_not_well() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: the connection is refused
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        (result,) = smoke((Smoke("api", "/"),), (Address("api", "api-1", url),))

    assert result.detail == "api-1 did not answer GET /: the connection failed (ConnectError)."


def test_a_service_without_a_replica_is_not_well() -> None:
    (result,) = smoke((Smoke("api", "/"),), ())

    assert result.detail == "there is no replica of api to ask for /."


WRITING = Smoke("api", "/rooms/{unique}", method="PUT", body={"key": "smoke-{unique}", "beds": [1, {"of": "{unique}"}], "free": True})


def test_what_may_write_is_sent_to_a_copy_and_nowhere_else() -> None:
    heard: list[tuple[str, str, str]] = []
    reading = Smoke("api", "/rooms")
    with serving(lambda _: (200, ""), heard=heard) as url:
        assert len(smoke((reading, WRITING), (Address("api", "api-1", url),))) == 1
        assert [method for method, _, _ in heard] == ["GET"]
        results = smoke((reading, WRITING), (Address("api", "api-1", url),), on_copy=True)
    assert all(result.well for result in results)
    assert sorted(method for method, _, _ in heard) == ["GET", "GET", "PUT"]


def test_each_writing_request_has_a_word_of_its_own_also_when_it_is_asked_again() -> None:
    heard: list[tuple[str, str, str]] = []
    answers = iter([(0, ""), (200, ""), (500, "")])
    with serving(lambda _: next(answers), heard=heard) as url:
        (first,) = smoke((WRITING,), (Address("api", "api-1", url),), on_copy=True)
        (second,) = smoke((WRITING,), (Address("api", "api-1", url),), on_copy=True)
    assert first.well
    assert second.detail == "api-1 answered 500 to PUT /rooms/{unique}, expected 200."
    words = [path.removeprefix("/rooms/") for _, path, _ in heard]
    assert len(set(words)) == 3
    for word, (_, _, body) in zip(words, heard, strict=True):
        assert json.loads(body) == {"key": f"smoke-{word}", "beds": [1, {"of": word}], "free": True}
