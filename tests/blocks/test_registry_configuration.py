"""An image's own words, out of a registry that may lie. A real registry hands them out in `tests/flows/test_scanning.py`."""

import hashlib
import json
from typing import Any

import pytest
from httpx import Response

from blocks.registry_configuration import configurations_of
from delivery.errors import DeliveryError
from delivery.image import ImageConfiguration, ImageRef


class Shelf:
    """A repository by digest; each document knows its own."""

    def __init__(self) -> None:
        self.answers: dict[str, Response] = {}

    def put(self, what: str, document: Any) -> str:
        content = json.dumps(document).encode()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.answers[f"/v2/shop/api/{what}/{digest}"] = Response(200, content=content)
        return digest

    def image(self, user: str, *sizes: int) -> str:
        config = self.put("blobs", {"config": {"User": user}})
        return self.put("manifests", {"config": {"digest": config}, "layers": [{"size": size} for size in sizes]})

    def ask(self, _method: str, path: str, *, headers: dict[str, str] | None = None) -> Response:
        del headers
        return self.answers.get(path, Response(404, json={}))

    def read(self, digest: str) -> tuple[ImageConfiguration, ...]:
        return configurations_of(self.ask, ImageRef("ghcr.io", "shop/api", digest))


def test_an_image_tells_its_user_and_size_for_each_platform_and_attestations_are_none() -> None:
    shelf = Shelf()
    assert shelf.read(shelf.image("10001", 1_500_000, 500_000)) == (ImageConfiguration("10001", 2.0),)
    listed = [{"digest": shelf.image(user), "platform": {"os": os}} for user, os in (("1", "linux"), ("", "linux"), ("", "unknown"))]
    assert [one.user for one in shelf.read(shelf.put("manifests", {"manifests": listed}))] == ["1", ""]


def test_what_does_not_fit_its_digest_is_not_believed() -> None:
    shelf = Shelf()
    digest = shelf.image("0")
    config = next(path for path in shelf.answers if "/blobs/" in path)
    shelf.answers[config] = Response(200, json={"config": {"User": "10001"}})
    with pytest.raises(DeliveryError, match="handed out something else for blobs/"):
        shelf.read(digest)


@pytest.mark.parametrize(
    "document", [{}, {"config": {"digest": "sha256:1"}, "layers": []}, {"config": {}, "layers": [{"size": "large"}]}, []]
)
def test_what_is_no_image_is_refused(document: Any) -> None:
    shelf = Shelf()
    with pytest.raises(DeliveryError):
        shelf.read(shelf.put("manifests", document))
    with pytest.raises(DeliveryError, match="answered 404"):
        shelf.read("sha256:" + "0" * 64)
