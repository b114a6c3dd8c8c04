"""What is left when whoever retires a release dies just before its last act."""

import pytest

from bench.stand import web, worker
from blocks.engine import Engine
from tests.blocks.targets.place import Place

pytestmark = pytest.mark.docker


def test_a_release_that_is_nothing_but_a_network_is_still_present_until_it_is_retired_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = place.release("1.0.0", web(), worker())
    place.launch(release)
    with monkeypatch.context() as died:
        died.setattr(Engine, "remove_network", lambda *_: None)
        place.target.retire(release, keep_remains=False, token=place.token)
    assert place.containers() == []
    assert place.target.observe().present == {release.id}
    place.target.retire(release, keep_remains=False, token=place.token)
    assert place.target.observe().present == frozenset()
