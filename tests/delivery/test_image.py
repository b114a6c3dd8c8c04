import pytest

from delivery.errors import InvalidSettings
from delivery.image import ImageRef, is_digest, tags_at_publish, tags_on_staging
from delivery.source import Semver, Sha

DIGEST = "sha256:" + "0f" * 32
VERSION, COMMIT = Semver(1, 2, 3), Sha("abc123de" * 5)


@pytest.mark.parametrize(
    ("text", "image"),
    [
        (f"ghcr.io/team/deal-brain-api@{DIGEST}", ImageRef("ghcr.io", "team/deal-brain-api", DIGEST)),
        (f"127.0.0.1:5000/api@{DIGEST}", ImageRef("127.0.0.1:5000", "api", DIGEST)),
    ],
)
def test_a_pinned_image_is_read_and_written(text: str, image: ImageRef) -> None:
    assert ImageRef.parse(text) == image
    assert str(image) == text


@pytest.mark.parametrize(
    "text",
    [
        "ghcr.io/team/api:v1.2.3",
        "ghcr.io/team/api:latest",
        f"ghcr.io/team/api:v1@{DIGEST}",
        f"api@{DIGEST}",
        f"ghcr.io/Team/api@{DIGEST}",
        f"ghcr.io/team/api@{DIGEST[:-1]}",
        f"ghcr.io/team/api@{DIGEST.upper()}",
        f"user:password@ghcr.io/team/api@{DIGEST}",
        f"ghcr.io/team/api@{DIGEST}\n",
        "",
    ],
)
def test_a_tag_or_anything_else_that_may_move_is_refused(text: str) -> None:
    with pytest.raises(InvalidSettings, match="Not a pinned image"):
        ImageRef.parse(text)


def test_an_image_cannot_be_made_without_a_digest() -> None:
    with pytest.raises(InvalidSettings):
        ImageRef("ghcr.io", "team/api", "latest")


def test_a_digest_is_known_by_its_form() -> None:
    assert is_digest(DIGEST)
    assert not is_digest("latest")


def test_only_the_main_branch_moves_latest() -> None:
    assert tags_at_publish(VERSION, COMMIT, on_main=False) == ("v1.2.3", "v1.2.3-abc123de")
    assert tags_at_publish(VERSION, COMMIT, on_main=True) == ("v1.2.3", "v1.2.3-abc123de", "latest")


def test_staging_has_names_of_its_own() -> None:
    assert tags_on_staging(VERSION) == ("staging-latest", "staging-v1.2.3")
