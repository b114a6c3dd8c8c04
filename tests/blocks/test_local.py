"""The local source of blocks: private, strict, and the same classes as in Prefect."""

from pathlib import Path

import pytest

from blocks.local import BLOCK_TYPES, local_blocks, slug_of
from blocks.settings import Settings
from blocks.targets.docker import DockerTarget
from delivery.errors import InvalidSettings

WHOLE = """\
[docker-target.production]
environment = "production"
network = "greenroom-production"
public_url = "http://127.0.0.1:8080"
secrets = "production"
traffic = { environment = "production", dynamic_dir = "/tmp/dynamic", admin_url = "http://127.0.0.1:8099", entry_point = "production" }

[environment-secrets.production]
values = { SECRET_KEY = "hidden" }

[oci-registry.default]
host = "127.0.0.1:5000"
insecure = true
"""


def written(folder: Path, text: str, mode: int = 0o600) -> Settings:
    file = folder / "blocks.toml"
    file.write_text(text)
    file.chmod(mode)
    return Settings(work_dir=folder)


def test_a_block_holds_the_block_that_it_names(tmp_path: Path) -> None:
    target = local_blocks(written(tmp_path, WHOLE))["docker-target", "production"]
    assert isinstance(target, DockerTarget)
    assert target.secrets is not None
    assert target.secrets.reveal()["SECRET_KEY"].get_secret_value() == "hidden"


def test_held_blocks_come_before_their_holders(tmp_path: Path) -> None:
    names = list(local_blocks(written(tmp_path, WHOLE)))
    assert names.index(("environment-secrets", "production")) < names.index(("docker-target", "production"))


def test_every_type_has_a_slug_of_its_own() -> None:
    slugs = [slug_of(kind) for kind in BLOCK_TYPES]
    assert len(set(slugs)) == len(slugs)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(InvalidSettings, match="others may read it") as refused:
        local_blocks(written(tmp_path, WHOLE, mode))
    assert refused.value.next.startswith("chmod 600")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[docker-targt.production]\n", r"docker-targt: got an unknown type of block.*did you mean docker-target\?"),
        ("[oci-registry.default]\nhots = 'x'\n", r"oci-registry\.default\.hots: got an unknown key"),
        ("[oci-registry.default]\n", r"oci-registry\.default\.host: got a value that does not fit"),
        ("[git-credential]\ndefault = 'text'\n", r"git-credential\.default: got no section"),
        ("oci-registry = 3\n", r"oci-registry: got a value, expected sections"),
        ("[slack-notifier.team]\n", r"slack-notifier\.team: A Slack notifier has a token with a channel, or a webhook"),
        ("not toml", r"not TOML"),
    ],
)
def test_what_cannot_be_meant_is_named(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InvalidSettings, match=told):
        local_blocks(written(tmp_path, text))


def test_a_block_that_names_a_missing_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"environment-secrets\.production: got no section"):
        local_blocks(written(tmp_path, WHOLE.replace("[environment-secrets.production]", "[environment-secrets.prod]")))


def test_every_mistake_is_told_at_once_and_no_secret_with_it(tmp_path: Path) -> None:
    text = "[oci-registry.default]\npassword = 12345678\nhots = 'x'\n[git-credential.default]\ntoken = ['s3cret']\n"
    with pytest.raises(InvalidSettings) as refused:
        local_blocks(written(tmp_path, text))
    assert all(key in str(refused.value) for key in ("hots", "host", "token"))
    assert "s3cret" not in str(refused.value)
    assert "12345678" not in str(refused.value)


def test_a_missing_file_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="There is no blocks file"):
        local_blocks(Settings(work_dir=tmp_path))
