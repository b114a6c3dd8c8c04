"""Nothing that somebody may need is ever deleted; what nobody needs goes with all its parts."""

from hypothesis import given
from hypothesis import strategies as st

from delivery.image import ImageRef, tags_at_publish
from delivery.release import Release
from delivery.retention import Manifest, Verdict, judge_repository, why_releases_stay
from tests.samples import a_release


def digest(name: str) -> str:
    return "sha256:" + name.encode().hex().ljust(64, "0")


def a_version(number: int, *, image: str | None = None) -> Release:
    release = a_release(f"1.{number}.0")
    api = ImageRef("127.0.0.1:5000", "dealbrain-api", digest(image or f"api {number}"))
    return a_release(f"1.{number}.0", images={**release.images, "api": api})


def stored(release: Release, *further: str, lists: tuple[str, ...] = ()) -> Manifest:
    names = tags_at_publish(release.version, release.sha, on_main=False)
    return Manifest(release.images["api"].digest, frozenset((*names, *further)), lists)


def judged(manifests: list[Manifest], releases: list[Release], *staying: Release) -> dict[str, Verdict]:
    return dict(judge_repository(manifests, releases, {one.id: "needed" for one in staying}, service="api"))


OLD, NEW = a_version(1), a_version(2)
OLD_IMAGE, NEW_IMAGE = OLD.images["api"].digest, NEW.images["api"].digest


def test_an_image_of_which_no_release_stays_goes() -> None:
    found = judged([stored(OLD), stored(NEW)], [NEW, OLD], NEW)
    assert (found[OLD_IMAGE].goes, found[NEW_IMAGE].goes, found[NEW_IMAGE].why) == (True, False, "needed")


def test_an_image_that_an_old_and_a_new_release_share_stays() -> None:
    same = a_version(3, image="api 1")
    assert not judged([stored(OLD)], [same, OLD], same)[OLD_IMAGE].goes


def test_an_image_with_a_name_that_its_releases_do_not_explain_stays() -> None:
    for name in ("v9.9.9", "keep-this", "latest", "staging-latest"):
        found = judged([stored(OLD, name)], [NEW, OLD], NEW)[OLD_IMAGE]
        assert not found.goes
        assert name in found.why


def test_its_names_of_staging_do_not_keep_an_image() -> None:
    assert judged([stored(OLD, "staging-v1.1.0")], [NEW, OLD], NEW)[OLD_IMAGE].goes


def test_what_nobody_here_published_stays() -> None:
    found = judged([Manifest(digest("foreign"), frozenset({"v3"}))], [NEW, OLD])
    assert found[digest("foreign")] == Verdict("v3", goes=False, why="nobody here published it")


def test_parts_and_descriptions_share_the_fate_of_their_image_and_go_before_it() -> None:
    part, signature, about_signature = digest("amd64"), digest("signature"), digest("about the signature")
    listing = Manifest(digest("listing"), frozenset({"sha256-" + OLD_IMAGE[7:]}), (signature,), OLD_IMAGE)
    manifests = [stored(OLD, lists=(part,)), stored(NEW), listing, Manifest(about_signature, subject=signature)]
    found = judged(manifests, [NEW, OLD], NEW)
    assert {one for one, fate in found.items() if fate.goes} == {OLD_IMAGE, part, signature, about_signature, listing.digest}
    order = list(found)
    assert max(order.index(one) for one in (part, signature, listing.digest)) < order.index(OLD_IMAGE)


def test_a_part_that_one_that_stays_also_lists_stays() -> None:
    part = digest("shared layer list")
    found = judged([stored(OLD, lists=(part,)), stored(NEW, lists=(part,))], [NEW, OLD], NEW)
    assert (found[OLD_IMAGE].goes, found[part].goes) == (True, False)


def test_a_description_of_what_stays_stays_and_so_does_one_of_something_unknown() -> None:
    about_new, about_nothing = Manifest(digest("sbom"), subject=NEW_IMAGE), Manifest(digest("lost"), subject=digest("never seen"))
    found = judged([stored(OLD), stored(NEW), about_new, about_nothing], [NEW, OLD], NEW)
    assert not found[about_new.digest].goes
    assert found[about_nothing.digest].why == "nobody knows what it describes"


def test_what_is_needed_stays_beside_the_newest() -> None:
    releases = [a_version(number) for number in range(5, 0, -1)]
    staying = why_releases_stay(releases, {releases[4].id: "live in production"}, keep=2)
    assert staying == {
        releases[0].id: "among the newest 2",
        releases[1].id: "among the newest 2",
        releases[4].id: "live in production",
    }


def test_the_same_images_under_other_settings_take_no_place_among_the_newest() -> None:
    newest, before, oldest = (a_version(number) for number in (3, 2, 1))
    staying = why_releases_stay([newest.with_settings(3), newest.with_settings(2), newest, before, oldest], {}, keep=2)
    assert staying.keys() == {newest.id, f"{newest.id}-r2", f"{newest.id}-r3", before.id}


names = st.sampled_from("abcdef")


@given(
    images=st.lists(names, min_size=1, max_size=6),
    staying=st.sets(st.integers(0, 5)),
    lists=st.dictionaries(names, st.sets(st.sampled_from("uvwxyz"), max_size=3)),
    about=st.dictionaries(st.sampled_from("123456"), st.sampled_from("abcdefuvwxyz123456")),
)
def test_whatever_lies_there_nothing_that_a_release_needs_goes(
    images: list[str], staying: set[int], lists: dict[str, set[str]], about: dict[str, str]
) -> None:
    releases = [a_version(number, image=image) for number, image in enumerate(images)]
    keep = [release for number, release in enumerate(releases) if number in staying]
    manifests = [Manifest(digest(one), lists=tuple(map(digest, sorted(lists.get(one, ()))))) for one in set(images)]
    manifests += [Manifest(digest(one), subject=digest(subject)) for one, subject in about.items()]
    gone = {one for one, fate in judged(manifests, releases, *keep).items() if fate.goes}
    needed = {release.images["api"].digest for release in keep}
    needed |= {part for one in manifests if one.digest in needed for part in one.lists}
    for _ in about:
        needed |= {one.digest for one in manifests if one.subject in needed}
    assert not gone & needed
