"""Whoever drives a target may die between any two of its side effects: saying the verb again, or going back, ends where it would have."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest

from bench.stand import token, web, worker
from blocks.targets.docker import DockerTarget
from delivery.ports import Token
from delivery.release import Release
from tests.blocks.targets.place import SECRET, Place, remove_image, until
from tests.blocks.targets.side_effects import SideEffects

pytestmark = [pytest.mark.docker, pytest.mark.exhaustive]

MOST_SIDE_EFFECTS = 40
FEWEST = {"prepare": 2, "launch": 9, "launch again": 7, "shift": 4, "shift back": 4, "promote": 2, "drain": 2, "retire": 10, "run once": 5}


class Story:
    """Blue is live, green comes; each call of a new process carries a higher token."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.fences = itertools.count(1)
        services = (web(replicas=2), worker(settings={"JOB_SECONDS": "0.05"}))
        self.blue = place.release("1.0.0", *services)
        self.green = place.release("1.1.0", *services)

    def process(self) -> tuple[DockerTarget, Token]:
        """A new process: it knows nothing, and its token is the highest."""
        return self.place.stand.target(self.place.name, secret_values={"TOKEN": SECRET}), token(self.place.name, next(self.fences))

    # ---- where a verb begins, from wherever the one before has ended

    def blue_alone(self) -> None:
        target, token = self.process()
        if self.blue.id not in target.observe().running:
            target.prepare(self.blue, token)
            target.launch(self.blue, variables={}, token=token)
        target.shift(self.green, percent=0, rest=self.blue, token=token)
        target.promote(self.blue, token)
        target.retire(self.green, keep_remains=False, token=token)

    def images_gone(self) -> None:
        self.blue_alone()
        for image in self.green.images.values():
            remove_image(self.place.stand, image)

    def one_replica_of_blue_died(self) -> None:
        if self.blue.id not in self.place.target.observe().running:
            self.blue_alone()
        died = self.place.containers(release=self.blue.id, service="api")[0]
        died.kill()
        until(lambda: died.id not in {container.id for container in self.place.containers() if container.status == "running"})

    def green_beside_blue(self) -> None:
        self.blue_alone()
        target, token = self.process()
        target.launch(self.green, variables={}, token=token)

    def half_with_green(self) -> None:
        self.green_beside_blue()
        target, token = self.process()
        target.shift(self.green, percent=50, rest=self.blue, token=token)

    def green_with_everybody(self) -> None:
        self.half_with_green()
        target, token = self.process()
        target.shift(self.green, percent=100, rest=self.blue, token=token)

    def green_live(self) -> None:
        self.green_with_everybody()
        target, token = self.process()
        target.promote(self.green, token)

    def blue_drained(self) -> None:
        self.green_live()
        target, token = self.process()
        target.drain(self.blue, token)

    # ---- what there is to see

    def users_are_served(self) -> bool:
        try:
            self.place.ask()
        except httpx.HTTPStatusError:
            return False
        return True

    def seen(self) -> dict[str, Any]:
        """All that an undisturbed run leaves: containers, networks, routing as written and as Traefik runs it. Addresses as names."""
        containers = self.place.containers()
        names: dict[str, str] = {}
        for container in containers:
            for network in container.attrs["NetworkSettings"]["Networks"].values():
                names[network["IPAddress"]] = str(container.name)
        state = self.place.target.traffic.state()
        return {
            "containers": {
                str(one.name): (
                    one.status,
                    sorted(one.attrs["NetworkSettings"]["Networks"]),
                    {key: value for key, value in one.labels.items() if key != "greenroom.fence"},
                )
                for one in containers
            },
            "networks": sorted(
                network.name
                for network in self.place.stand.engine.networks.list(filters={"label": f"greenroom.environment={self.place.name}"})
            ),
            "live": state.live,
            "routes": {
                release: (
                    route.weight,
                    {
                        name: sorted(names.get(url.split("/")[2].split(":")[0], url) for url in service.servers)
                        for name, service in route.services.items()
                    },
                )
                for release, route in state.releases.items()
            },
            "weights": self.place.target.traffic.live_weights(),
            "running": self.place.target.observe().running,
        }


@dataclass(frozen=True)
class Verb:
    begin: Callable[[Story], None]
    act: Callable[[Story, DockerTarget, Token], object]


def _launch(release: Callable[[Story], Release]) -> Callable[[Story, DockerTarget, Token], object]:
    return lambda story, target, token: target.launch(release(story), variables={}, token=token)


def _shift(percent: int) -> Callable[[Story, DockerTarget, Token], object]:
    return lambda story, target, token: target.shift(story.green, percent=percent, rest=story.blue, token=token)


def _run_once(story: Story, target: DockerTarget, token: Token) -> object:
    command = ["python", "-S", "-c", "print('moved')"]
    result = target.run_once(story.green, "api", command, variables={}, timeout=timedelta(seconds=20), token=token)
    assert (result.exit_code, result.tail) == (0, ("moved",))
    return result


VERBS = {
    "prepare": Verb(Story.images_gone, lambda story, target, token: target.prepare(story.green, token)),
    "launch": Verb(Story.blue_alone, _launch(lambda story: story.green)),
    "launch again": Verb(Story.one_replica_of_blue_died, _launch(lambda story: story.blue)),
    "shift": Verb(Story.green_beside_blue, _shift(50)),
    "shift back": Verb(Story.half_with_green, _shift(0)),
    "promote": Verb(Story.green_with_everybody, lambda story, target, token: target.promote(story.green, token)),
    "drain": Verb(Story.green_live, lambda story, target, token: target.drain(story.blue, token)),
    "retire": Verb(Story.blue_drained, lambda story, target, token: target.retire(story.blue, keep_remains=False, token=token)),
    "run once": Verb(Story.blue_alone, _run_once),
}
BEFORE_THE_PROMOTION = ["launch", "shift", "promote"]


def each_death(story: Story, verb: Verb, effects: SideEffects, goes_on: Callable[[], object], *, fewest: int) -> None:
    """For every k: begin, die before the k-th side effect, go on, and see the same as without dying."""
    verb.begin(story)
    undisturbed, _ = effects.watch(lambda: verb.act(story, *story.process()))
    goes_on()
    expected = story.seen()
    assert fewest <= len(undisturbed) <= MOST_SIDE_EFFECTS, undisturbed
    for k in range(1, len(undisturbed) + 1):
        verb.begin(story)
        done, died = effects.watch(lambda: verb.act(story, *story.process()), dies_before=k)
        told = f"killed after {done} of {undisturbed}"
        assert died, told
        # Traefik needs a moment to notice a replica that died by itself; nothing else may keep users from being served.
        until(story.users_are_served) if verb.begin is Story.one_replica_of_blue_died else story.place.ask()
        goes_on()
        assert story.seen() == expected, told


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_that_is_said_again_after_its_process_died_anywhere_ends_where_it_would_have(
    place: Place, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    story, effects, verb = Story(place), SideEffects(monkeypatch), VERBS[name]
    each_death(story, verb, effects, lambda: verb.act(story, *story.process()), fewest=FEWEST[name])
    before = story.seen()
    verb.act(story, *story.process())
    assert story.seen() == before, "a verb that is said once more changes nothing"


@pytest.mark.parametrize("name", BEFORE_THE_PROMOTION)
def test_going_back_after_the_process_died_anywhere_leaves_the_previous_release_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    story, effects = Story(place), SideEffects(monkeypatch)
    each_death(story, VERBS[name], effects, story.blue_alone, fewest=FEWEST[name])
    assert {container.labels["greenroom.release"] for container in place.containers()} == {story.blue.id}
    assert place.target.observe().weights == {story.blue.id: 100}
