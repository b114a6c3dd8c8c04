"""Reading and clearing a repository, as registries answer that are not here: in pages, with a list of referrers, without deleting."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from blocks.registry_shelf import delete_manifest, manifests_in
from delivery.errors import DeliveryError, TransientError

APP, PART, SIGNATURE = (f"sha256:{digit * 64}" for digit in "123")
Answer = httpx.Response


def registry(answers: dict[str, Answer]) -> Callable[..., Answer]:
    def ask(method: str, path: str, *, headers: dict[str, str] | None = None) -> Answer:
        del headers
        return answers.get(f"{method} {path}", Answer(404, json={}))

    return ask


def manifest(digest: str, **document: Any) -> Answer:
    return Answer(200, json=document, headers={"Docker-Content-Digest": digest})


def test_all_pages_of_names_are_read_and_each_digest_once() -> None:
    ask = registry(
        {
            "GET /v2/app/tags/list?n=1000": Answer(
                200, json={"tags": ["v1"]}, headers={"Link": '</v2/app/tags/list?last=v1&n=1>; rel="next"'}
            ),
            "GET /v2/app/tags/list?last=v1&n=1": Answer(200, json={"tags": ["latest"]}),
            "GET /v2/app/manifests/v1": manifest(APP, manifests=[{"digest": PART}]),
            "GET /v2/app/manifests/latest": manifest(APP, manifests=[{"digest": PART}]),
        }
    )
    [found] = manifests_in(ask, "app", "ghcr.io")
    assert (found.digest, found.tags, found.lists, found.subject) == (APP, {"v1", "latest"}, (PART,), None)


def test_what_describes_an_image_is_found_where_the_registry_lists_it() -> None:
    ask = registry(
        {
            "GET /v2/app/tags/list?n=1000": Answer(200, json={"tags": ["v1"]}),
            "GET /v2/app/manifests/v1": manifest(APP, layers=[]),
            f"GET /v2/app/referrers/{APP}": Answer(200, json={"manifests": [{"digest": SIGNATURE}]}),
            f"GET /v2/app/manifests/{SIGNATURE}": manifest(SIGNATURE, subject={"digest": APP}),
        }
    )
    assert {one.digest: one.subject for one in manifests_in(ask, "app", "ghcr.io")} == {APP: None, SIGNATURE: APP}


def test_a_repository_that_is_not_there_is_empty_and_one_that_cannot_be_read_is_not() -> None:
    assert manifests_in(registry({}), "app", "ghcr.io") == ()
    with pytest.raises(DeliveryError, match="403 to: names in app"):
        manifests_in(registry({"GET /v2/app/tags/list?n=1000": Answer(403)}), "app", "ghcr.io")
    with pytest.raises(TransientError, match="500"):
        delete_manifest(registry({f"DELETE /v2/app/manifests/{APP}": Answer(500)}), "app", APP, "ghcr.io")


def test_a_registry_that_does_not_allow_deleting_is_told_with_the_way_out() -> None:
    refusal = Answer(405, json={"errors": [{"code": "UNSUPPORTED"}]})
    with pytest.raises(DeliveryError, match=r"ghcr.io does not allow deleting. Next: switch it on"):
        delete_manifest(registry({f"DELETE /v2/app/manifests/{APP}": refusal}), "app", APP, "ghcr.io")


def test_what_is_gone_already_is_well() -> None:
    delete_manifest(registry({}), "app", APP, "ghcr.io")
