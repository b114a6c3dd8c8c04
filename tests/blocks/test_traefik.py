import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from blocks.traefik import ReleaseRoute, RoutingState, ServiceRoute, TraefikRoutes, traefik_service
from delivery.errors import DeliveryError, InvalidSettings, StaleFence, TransientError
from delivery.ports import Token
from deployments.processes import free_ports, wait_until
from deployments.stage import Traefik

BLUE, GREEN = "v1.0.0-aaaaaaaa", "v1.1.0-bbbbbbbb"


def token(fence: int = 1) -> Token:
    return Token(environment="production", rollout=f"production-{fence}", fence=fence)


def routes(folder: Path, **changes: Any) -> TraefikRoutes:
    fields: dict[str, Any] = {
        "environment": "production",
        "dynamic_dir": folder / "dynamic",
        "admin_url": "http://127.0.0.1:9",
        "entry_point": "users",
        "confirm_seconds": 0.2,
    }
    (folder / "dynamic").mkdir(exist_ok=True)
    return TraefikRoutes(**(fields | changes))


def release(weight: int, **services: ServiceRoute) -> ReleaseRoute:
    return ReleaseRoute(weight, services)


def api(*servers: str, prefixes: tuple[str, ...] = ("/api",)) -> ServiceRoute:
    return ServiceRoute(servers, prefixes, "/health")


def weighted(document: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Per rule: which child gets which weight."""
    http = document["http"]
    return {
        router["rule"]: {child["name"]: child["weight"] for child in http["services"][router["service"]]["weighted"]["services"]}
        for router in http.get("routers", {}).values()
    }


def test_both_releases_share_every_route_by_weight(tmp_path: Path) -> None:
    state = RoutingState(releases={BLUE: release(75, api=api("http://b:1")), GREEN: release(25, api=api("http://g:1"))})
    assert weighted(routes(tmp_path).render(state)) == {
        "Path(`/api`) || PathPrefix(`/api/`)": {f"production.api.{BLUE}": 75, f"production.api.{GREEN}": 25}
    }


def test_a_route_that_only_green_knows_sends_blues_share_to_what_serves_it_in_blue(tmp_path: Path) -> None:
    blue = release(90, web=api("http://b:1", prefixes=("/",)))
    green = release(10, web=api("http://g:1", prefixes=("/",)), api=api("http://g:2"))
    found = weighted(routes(tmp_path).render(RoutingState(releases={BLUE: blue, GREEN: green})))
    assert found["Path(`/api`) || PathPrefix(`/api/`)"] == {f"production.web.{BLUE}": 90, f"production.api.{GREEN}": 10}


def test_the_longer_route_is_asked_first(tmp_path: Path) -> None:
    both = release(100, web=api("http://b:1", prefixes=("/",)), api=api("http://b:2"))
    routers = routes(tmp_path).render(RoutingState(releases={BLUE: both}))["http"]["routers"]
    priorities = {router["rule"]: router["priority"] for router in routers.values()}
    assert priorities["Path(`/api`) || PathPrefix(`/api/`)"] > priorities["PathPrefix(`/`)"]


def test_a_release_that_only_stands_by_brings_no_routes_of_its_own(tmp_path: Path) -> None:
    blue, green = release(100, web=api("http://b:1", prefixes=("/",))), release(0, api=api("http://g:2"))
    assert set(weighted(routes(tmp_path).render(RoutingState(releases={BLUE: blue, GREEN: green})))) == {"PathPrefix(`/`)"}


@pytest.mark.parametrize("weights", [(60, 60), (100, 1), (-10, 110), (50, 0)])
def test_shares_that_do_not_add_up_to_100_are_refused(tmp_path: Path, weights: tuple[int, int]) -> None:
    state = RoutingState(releases={BLUE: release(weights[0], api=api("http://b:1")), GREEN: release(weights[1], api=api("http://g:1"))})
    with pytest.raises(DeliveryError, match="add up to 100"):
        routes(tmp_path).render(state)


def test_a_route_that_would_end_its_traefik_rule_is_refused(tmp_path: Path) -> None:
    state = RoutingState(releases={BLUE: release(100, api=api("http://b:1", prefixes=("/a`) || Host(`x",)))})
    with pytest.raises(InvalidSettings, match="expected a path"):
        routes(tmp_path).render(state)


@pytest.mark.parametrize("name", ["", "Prod", "a.b", "a/b", "-a", "ä", "a" * 41])
def test_an_environment_needs_a_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidSettings, match="expected up to 40 lower-case letters"):
        routes(tmp_path, environment=name)


def test_a_release_with_users_and_without_servers_leaves_the_last_good_routing_in_place(traefik_says: "Said", tmp_path: Path) -> None:
    here = routes(tmp_path, admin_url=traefik_says.url)
    good = RoutingState(releases={BLUE: release(100, api=api("http://b:1"))})
    traefik_says.shows(here, good)
    here.apply(token(), lambda _: good)
    before = (tmp_path / "dynamic" / "production.yml").read_bytes()
    with pytest.raises(DeliveryError, match="has no replica that runs"):
        here.apply(token(), lambda state: replace(state, releases={GREEN: release(100, api=api())}))
    assert (tmp_path / "dynamic" / "production.yml").read_bytes() == before
    assert here.state().weights == {BLUE: 100}


def test_a_lower_token_is_refused_by_every_way_in(tmp_path: Path) -> None:
    here = routes(tmp_path)
    here.claim(token(5))
    for act in (lambda: here.claim(token(4)), lambda: here.require(token(4)), lambda: here.apply(token(4), lambda state: state)):
        with pytest.raises(StaleFence, match="5 was already seen"):
            act()
    assert here.state().fence == 5


def test_a_token_of_another_environment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="expected one for production"):
        routes(tmp_path).claim(Token(environment="staging", rollout="staging-1", fence=9))


STATES = ("production.state.json", "production.state~.json")


def test_garbage_in_both_routing_states_is_not_taken_for_a_fence(tmp_path: Path) -> None:
    here = routes(tmp_path)
    here.claim(token())
    for name in STATES:
        (tmp_path / "dynamic-routing" / name).write_text("{")
    with pytest.raises(DeliveryError, match=r"cannot be read.*remove them only while no rollout is under way"):
        here.claim(token(2))


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("damage", ["", "{", "garbage", None])
def test_one_broken_routing_state_is_made_up_for_by_the_other(tmp_path: Path, name: str, damage: str | None) -> None:
    here = routes(tmp_path)
    here.claim(token(7))
    harm(tmp_path / "dynamic-routing" / name, damage)
    assert here.state().fence == 7
    with pytest.raises(StaleFence):
        here.claim(token(6))
    here.claim(token(8))
    assert [json.loads((tmp_path / "dynamic-routing" / each).read_text())["fence"] for each in STATES] == [8, 8]


def harm(file: Path, damage: str | None) -> None:
    """In place, as a hand or a full disk does it; None removes it."""
    if damage is None:
        file.unlink()
    else:
        file.write_text(damage)


def test_garbage_in_traefiks_file_does_not_keep_a_new_one_from_being_written(traefik_says: "Said", tmp_path: Path) -> None:
    here = routes(tmp_path, admin_url=traefik_says.url)
    (tmp_path / "dynamic" / "production.yml").write_text("{{{{")
    good = RoutingState(releases={BLUE: release(100, api=api("http://b:1"))})
    traefik_says.shows(here, good)
    here.apply(token(), lambda _: good)
    assert json.loads((tmp_path / "dynamic" / "production.yml").read_text()) == here.render(good)


def test_a_traefik_that_does_not_answer_is_worth_another_try(tmp_path: Path) -> None:
    here = routes(tmp_path)
    with pytest.raises(TransientError, match="did not answer"):
        here.live_weights()
    with pytest.raises(TransientError, match="does not show the new routing"):
        here.apply(token(), lambda _: RoutingState(releases={BLUE: release(100, api=api("http://b:1"))}))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeliveryError, match="cannot be written"):
        routes(tmp_path, work_dir=tmp_path / "file").claim(token())


def test_a_route_that_traefik_refuses_is_no_success(traefik_says: "Said", tmp_path: Path) -> None:
    here = routes(tmp_path, admin_url=traefik_says.url)
    good = RoutingState(releases={BLUE: release(100, api=api("http://b:1"))})
    traefik_says.shows(here, good, status="disabled", error=["entryPoint users doesn't exist"])
    with pytest.raises(DeliveryError, match="entryPoint users doesn't exist"):
        here.apply(token(), lambda _: good)


# ---- several instances


@pytest.fixture
def pair(traefik_says: "Said", another_says: "Said", tmp_path: Path) -> TraefikRoutes:
    return routes(tmp_path, admin_url=traefik_says.url, more_admin_urls=(another_says.url,))


GOOD = RoutingState(releases={BLUE: ReleaseRoute(100, {"api": ServiceRoute(("http://b:1",), ("/api",), "/health")})})


def test_a_change_is_confirmed_only_when_every_instance_shows_it(pair: TraefikRoutes, traefik_says: "Said", another_says: "Said") -> None:
    traefik_says.shows(pair, GOOD)
    another_says.shows(pair, RoutingState())
    with pytest.raises(TransientError, match="does not show the new routing"):
        pair.apply(token(), lambda _: GOOD)
    another_says.shows(pair, GOOD)
    assert pair.apply(token(), lambda _: GOOD).weights == {BLUE: 100}


def test_an_instance_that_is_down_is_not_waited_for(tmp_path: Path, traefik_says: "Said") -> None:
    here = routes(tmp_path, admin_url="http://127.0.0.1:9", more_admin_urls=(traefik_says.url,))
    traefik_says.shows(here, GOOD)
    assert here.apply(token(), lambda _: GOOD).weights == {BLUE: 100}
    assert here.live_weights() == {BLUE: 100}


@pytest.mark.parametrize("code", [404, 500])
def test_an_instance_that_answers_something_else_is_unknown(
    pair: TraefikRoutes, traefik_says: "Said", another_says: "Said", code: int
) -> None:
    traefik_says.shows(pair, GOOD)
    another_says.code = code
    with pytest.raises(TransientError, match="nobody knows who gets production's users"):
        pair.live_weights()
    with pytest.raises(TransientError, match="does not show the new routing"):
        pair.apply(token(), lambda _: GOOD)


def test_instances_that_do_not_tell_the_same_are_unknown(pair: TraefikRoutes, traefik_says: "Said", another_says: "Said") -> None:
    traefik_says.shows(pair, GOOD)
    another_says.shows(pair, replace(GOOD, releases={GREEN: GOOD.releases[BLUE]}))
    with pytest.raises(TransientError, match="expected the same of each"):
        pair.live_weights()


class Said:
    """An address that answers as Traefik's API does, with what a test lets it say."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.code = 200
        self.answer: dict[str, Any] = {}

    def shows(self, here: TraefikRoutes, state: RoutingState, **more: object) -> None:
        http = here.render(state)["http"]
        marks = {"status": "enabled"} | more
        self.answer = {
            "routers": {f"{name}@file": {**router, **marks} for name, router in http.get("routers", {}).items()},
            "services": {f"{name}@file": {**service, **marks} for name, service in http.get("services", {}).items()},
        }


@contextlib.contextmanager
def saying() -> Iterator[Said]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(said.answer).encode()
            self.send_response(said.code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    said = Said(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield said
    server.shutdown()
    server.server_close()


@pytest.fixture
def traefik_says() -> Iterator[Said]:
    with saying() as said:
        yield said


@pytest.fixture
def another_says() -> Iterator[Said]:
    with saying() as said:
        yield said


@pytest.fixture(scope="module")
def traefik(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traefik]:
    """The real one; the binary comes with the dependencies, so these tests need no engine."""
    ports = free_ports(["users", "admin"])
    traefik = Traefik(tmp_path_factory.mktemp("traefik"), {"users": ports["users"]}, ports["admin"])
    traefik.start()
    yield traefik
    traefik.stop()


def real(traefik: Traefik, **changes: Any) -> TraefikRoutes:
    return TraefikRoutes(
        **{
            "environment": "production",
            "dynamic_dir": traefik.dynamic_directory,
            "work_dir": traefik.new_files_directory,
            "admin_url": traefik.admin_url,
            "entry_point": "users",
            **changes,
        }
    )


def test_real_traefik_shows_the_weights_it_was_told(traefik: Traefik, traefik_says: Said) -> None:
    here = real(traefik)
    for share in (100, 90, 50, 0):
        here.apply(
            token(),
            lambda state, share=share: replace(  # type: ignore[misc]
                state, releases={BLUE: release(share, api=api(traefik_says.url)), GREEN: release(100 - share, api=api(traefik_says.url))}
            ),
        )
        assert here.live_weights() == {BLUE: share, GREEN: 100 - share}
    assert httpx.get(f"{traefik.url('users')}/api/anything").status_code == 200
    assert httpx.get(f"{traefik.url('users')}/apix").status_code == 404


@pytest.mark.processes  # takes its time
def test_users_are_waited_for_until_traefik_sends_them_to_a_replica_that_got_well(
    traefik: Traefik, traefik_says: Said, another_says: Said
) -> None:
    here = real(traefik, environment="healing")
    mine = replace(token(), environment="healing")
    both = release(100, api=api(traefik_says.url, another_says.url, prefixes=("/healing",)))
    here.apply(mine, lambda state: replace(state, releases={BLUE: both}))
    another_says.code = 503

    def kept_out() -> bool:
        [shown] = here._admin.shown("healing")
        return shown.kept_out(BLUE) == [another_says.url]

    wait_until(kept_out, what="Traefik to keep the sick one out", seconds=10)
    asked = threading.Event()

    def heal() -> None:
        asked.wait(10)
        another_says.code = 200

    healing = threading.Thread(target=heal)
    healing.start()
    # The same routing again: Traefik does not read it anew, and only its next check takes the replica in.
    here.apply(mine, lambda state: state)
    asked.set()
    here.wait_until_served(BLUE, mine)
    healing.join()
    assert not kept_out()
    here.apply(mine, lambda state: replace(state, releases={}))


def test_a_replica_that_traefik_goes_on_to_find_sick_is_named(tmp_path: Path, traefik_says: Said) -> None:
    quick = routes(tmp_path, admin_url=traefik_says.url, health_timeout_seconds=0.1, health_interval_seconds=0.1)
    traefik_says.shows(quick, GOOD, serverStatus={"http://b:1": "DOWN", "http://b:2": "UP"})
    quick.claim(token(2))
    with pytest.raises(TransientError, match=r"keeps http://b:1 of v1\.0\.0-aaaaaaaa from its users"):
        quick.wait_until_served(BLUE, token(2))
    with pytest.raises(StaleFence):
        quick.wait_until_served(BLUE, token(1))
    traefik_says.shows(quick, GOOD, serverStatus={"http://b:1": "UP"})
    quick.wait_until_served(BLUE, token(2))


def test_real_traefik_forgets_an_environment_that_serves_nobody(traefik: Traefik, traefik_says: Said) -> None:
    here = real(traefik, environment="gone")
    here.apply(replace(token(), environment="gone"), lambda state: replace(state, releases={BLUE: release(100, api=api(traefik_says.url))}))
    here.apply(replace(token(), environment="gone"), lambda state: replace(state, releases={}))
    assert here.live_weights() == {}


def test_environments_whose_names_begin_alike_do_not_see_one_another(traefik: Traefik, traefik_says: Said) -> None:
    here, other = real(traefik, environment="eu"), real(traefik, environment="eu-west")
    here.apply(replace(token(), environment="eu"), lambda state: replace(state, releases={BLUE: release(100, api=api(traefik_says.url))}))
    assert other.live_weights() == {}


def test_an_entry_point_that_does_not_exist_is_told_in_traefiks_words(traefik: Traefik, traefik_says: Said) -> None:
    here = real(traefik, environment="lost", entry_point="nowhere")
    with pytest.raises(DeliveryError, match="nowhere"):
        here.apply(
            replace(token(), environment="lost"), lambda state: replace(state, releases={BLUE: release(100, api=api(traefik_says.url))})
        )


FILES = ("damaged.yml", "damaged~.yml")


@pytest.fixture
def damaged(traefik: Traefik, traefik_says: Said) -> Iterator[TraefikRoutes]:
    """An environment with users, whose files are about to come to harm; others share the directory with it."""
    here = real(traefik, environment="damaged", confirm_seconds=10)
    to_blue = replace(GOOD, releases={BLUE: release(100, api=api(traefik_says.url, prefixes=("/damaged",)))})
    here.apply(of_damaged(), lambda state: replace(state, releases=to_blue.releases))
    yield here
    here.repair()
    here.apply(of_damaged(), lambda state: replace(state, releases={}))


def of_damaged(fence: int = 1) -> Token:
    return Token(environment="damaged", rollout=f"damaged-{fence}", fence=fence)


def reads_again(traefik: Traefik) -> None:
    """Returns when Traefik has read the directory, and taken in what it can: a change that was made after those before it is served."""
    probe = traefik.new_files_directory / "probe.yml"
    name = f"probe{time.monotonic_ns()}"
    table = {"routers": {name: {"rule": f"Path(`/{name}`)", "service": "noop@internal", "entryPoints": ["users"]}}}
    probe.write_text(json.dumps({"http": table}))
    probe.replace(traefik.dynamic_directory / "probe.yml")
    wait_until(lambda: httpx.get(f"{traefik.admin_url}/api/http/routers/{name}@file").status_code == 200, what="a new reading", seconds=10)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["", '{"http": {', None])
def test_an_emptied_torn_or_removed_file_serves_the_last_good_routes_and_is_repaired(
    traefik: Traefik, damaged: TraefikRoutes, name: str, damage: str | None
) -> None:
    file = traefik.dynamic_directory / name
    before = file.read_bytes()
    harm(file, damage)
    if damage != '{"http": {':  # which keeps the whole directory from being read
        reads_again(traefik)
    assert httpx.get(f"{traefik.url('users')}/damaged").status_code == 200
    assert damaged.live_weights() == {BLUE: 100}
    assert damaged.repair()
    assert file.read_bytes() == before
    reads_again(traefik)
    assert damaged.live_weights() == {BLUE: 100}
    assert not damaged.repair()


@pytest.mark.parametrize("damage", ["", "{{{{", None])
def test_with_both_files_broken_the_state_says_what_to_serve(traefik: Traefik, damaged: TraefikRoutes, damage: str | None) -> None:
    before = [(traefik.dynamic_directory / name).read_bytes() for name in FILES]
    for name in FILES:
        harm(traefik.dynamic_directory / name, damage)
    assert damaged.repair()
    assert [(traefik.dynamic_directory / name).read_bytes() for name in FILES] == before
    reads_again(traefik)
    assert damaged.live_weights() == {BLUE: 100}


def test_a_broken_state_leaves_users_where_they_are_and_acts_are_refused_with_the_way_out(traefik: Traefik, damaged: TraefikRoutes) -> None:
    states = [traefik.new_files_directory / f"damaged.state{mark}.json" for mark in ("", "~")]
    kept = [file.read_bytes() for file in states]
    for file in states:
        harm(file, "")
    with pytest.raises(DeliveryError, match="remove them only while no rollout is under way"):
        damaged.apply(of_damaged(2), lambda state: state)
    assert httpx.get(f"{traefik.url('users')}/damaged").status_code == 200
    for file, content in zip(states, kept, strict=True):
        file.write_bytes(content)


def test_a_file_that_is_whole_is_left_to_whoever_holds_the_token(traefik: Traefik, damaged: TraefikRoutes) -> None:
    somebody = b'{"http": {"middlewares": {"by-hand": {"compress": {}}}}}'
    for name in FILES:
        (traefik.dynamic_directory / name).write_bytes(somebody)
    assert not damaged.repair()
    assert (traefik.dynamic_directory / FILES[0]).read_bytes() == somebody
    # Until Traefik has read it, what is asked for looks as if it were there already.
    wait_until(lambda: not damaged.live_weights(), what="the foreign file in Traefik", seconds=20)
    damaged.apply(of_damaged(), lambda state: state)
    assert damaged.live_weights() == {BLUE: 100}


def test_the_next_act_mends_the_torn_file_of_another_environment(traefik: Traefik, traefik_says: Said, damaged: TraefikRoutes) -> None:
    harm(traefik.dynamic_directory / FILES[0], "{{{{")
    here = real(traefik, environment="neighbour")
    there = replace(token(), environment="neighbour")
    here.apply(there, lambda state: replace(state, releases={BLUE: release(100, api=api(traefik_says.url, prefixes=("/next",)))}))
    assert here.live_weights() == damaged.live_weights() == {BLUE: 100}
    here.apply(there, lambda state: replace(state, releases={}))


def test_the_name_of_a_service_in_traefik_is_the_label_of_its_metrics() -> None:
    assert traefik_service("production", "api", BLUE) == f"production.api.{BLUE}"
