"""What is collected of a rollout fits its room."""

from pathlib import Path

import pytest

from delivery.redaction import know
from tasks.rollout_logs import keep_output, shorten


def test_what_is_too_large_is_cut_to_its_ends_and_the_rest_stays_whole(tmp_path: Path) -> None:
    large, small = tmp_path / "large.log", tmp_path / "small.log"
    large.write_bytes(b"first" + b"." * 5000 + b"last")
    small.write_bytes(b"whole")
    shorten([large, small], each=1000, in_all=10_000)
    assert small.read_bytes() == b"whole"
    text = large.read_bytes()
    assert (text[:5], text[-4:]) == (b"first", b"last")
    assert len(text) < 1100
    assert b"[... 4,009 bytes were left out here ...]" in text


def test_many_files_share_the_rollouts_room(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.log" for number in range(10)]
    for file in files:
        file.write_bytes(b"." * 1000)
    shorten(files, each=1000, in_all=2000)
    assert sum(file.stat().st_size for file in files) < 2000 + 10 * 60


def test_output_is_kept_without_secrets(tmp_path: Path) -> None:
    know(["kept-output-secret"])
    facts = keep_output(["password is kept-output-secret", "done"], tmp_path / "rollout" / "migrate.log")
    assert facts == {"log": str(tmp_path / "rollout" / "migrate.log")}
    assert (tmp_path / "rollout" / "migrate.log").read_text() == "password is ***\ndone\n"


def test_output_that_cannot_be_kept_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "rollout").write_text("a file where a folder should be")
    assert keep_output(["done"], tmp_path / "rollout" / "migrate.log") == {}
    assert "migrate.log could not be kept" in caplog.text
