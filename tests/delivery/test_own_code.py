import pytest

from delivery.own_code import CodeSearch, is_own, own_packages


@pytest.mark.parametrize(
    "path",
    ["srv/dealbrain/models.py", "app/dist/server.js", "usr/src/app/index.ts", "usr/share/nginx/html/main.js", "home/app/x", "opt/shop/shop",
     "usr/local/bin/entry.sh", "usr/lib/shop/app.rb", "venv/bin/shop"],
)  # fmt: skip
def test_what_lies_outside_the_systems_folders_is_the_applications(path: str) -> None:
    assert is_own(path, "/usr/lib/shop")


@pytest.mark.parametrize(
    "path",
    ["usr/lib/python3/json.py", "usr/local/lib/python3.11/json.py", "venv/lib/python3.11/site-packages/sqlalchemy/sql.py", "etc/passwd",
     "srv/node_modules/pg/index.js", "srv/app/__pycache__/models.cpython-311.pyc", "usr/local/bin/node", "usr/bin/x.py", "srv/README.md",
     "srv/static/logo.png", "root/.bashrc", ".dockerenv", "var/lib/dpkg/status", "opt/yarn-v1.22.22/lib/cli.js"],
)  # fmt: skip
@pytest.mark.parametrize("home", ["/", "", "/usr", "/srv"])
def test_what_is_somebody_elses_is_not(path: str, home: str) -> None:
    assert not is_own(path, home)


@pytest.mark.parametrize(
    "text",
    [
        "x.seller_note",
        '"seller_note"',
        "SELLER_NOTE",
        "row.sellerNote",
        "class SellerNote:",
        "l.seller_note,",
        "(seller-note)",
        "a\nseller_note",
    ],
)
def test_a_name_is_found_as_a_word_however_it_is_spelled(text: str) -> None:
    search = CodeSearch(("seller_note",))
    search.look("api:/srv/a.py", text.encode())
    assert search.named(["seller_note"]) == (f"api:/srv/a.py:{text.count(chr(10)) + 1}",)


@pytest.mark.parametrize("text", ["seller_notes", "the_seller_note", "seller note", "seller.note", "sellernotes"])
def test_a_longer_word_is_another_name(text: str) -> None:
    search = CodeSearch(("seller_note",))
    search.look("api:/srv/a.py", text.encode())
    assert (search.files, search.named(["seller_note"])) == (1, ())


def test_a_quoted_name_in_camel_case_is_found_in_both_spellings() -> None:
    search = CodeSearch(("sellerNote", "ü"))
    search.look("api:/srv/a.sql", b'SELECT "sellerNote"')
    search.look("api:/srv/b.py", b"seller_note")
    search.look("api:/srv/c.py", 'SELECT "ü"'.encode())
    assert search.named(["sellerNote", "ü"]) == ("api:/srv/a.sql:1", "api:/srv/b.py:1", "api:/srv/c.py:1")


def test_what_was_compiled_is_searched_without_a_line() -> None:
    search = CodeSearch(("note",))
    search.look("api:/app/shop", b"\0\0\n note\0")
    assert search.named(["note"]) == ("api:/app/shop",)


def test_alembics_revisions_tell_of_the_past() -> None:
    search = CodeSearch(("note",))
    search.look("api:/srv/migrations/versions/0002.py", b'revision = "0002"\ndown_revision = "0001"\nadd("note")')
    search.look("api:/srv/other/0003.py", b'revision: str = "0003"\ndown_revision: str | None = "0002"\nadd("note")')
    search.look("api:/srv/other/0004.py", b'revision, down_revision = "0004", "0003"\nadd("note")')
    assert (search.files, search.named(["note"])) == (0, ())
    search.look("api:/srv/migrations/env.py", b"import models; models.note")
    search.look("api:/srv/pages.py", b"revision = 3\nnote = 1\nold(down_revision=2)")
    assert search.named(["note"]) == ("api:/srv/migrations/env.py:1", "api:/srv/pages.py:2")


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("srv/alembic.ini", b"note"),
        ("usr/local/bin/docker-entrypoint.sh", b"exec note"),
        ("srv/migrations/env.py", b"import note\nwith x:\n    context.run_migrations()"),
        ("srv/migrations/script.py.mako", b"note"),
    ],
)
def test_what_every_image_has_is_searched_and_is_no_code_that_was_shown(path: str, content: bytes) -> None:
    search = CodeSearch(("note",))
    search.look(f"api:/{path}", content)
    assert (search.files, search.named(["note"])) == (0, (f"api:/{path}:1",))


def test_the_scripts_of_a_virtual_environment_are_searched_and_are_no_code_that_was_shown() -> None:
    search = CodeSearch(("note",))
    search.look("api:/venv/bin/shop", b"import shop; shop.note")
    search.look("api:/venv/pyvenv.cfg", b"home = /usr/local/bin")
    assert (search.files, search.named(["note"])) == (0, ("api:/venv/bin/shop:1",))
    search.look_at_package("api:/venv/lib/python3.11/site-packages/shop/models.py", b"x = 1")
    search.look("api:/srv/app.py", b"x = 1")
    search.look("api:/venv2/app.py", b"x = 1")
    assert search.files == 3


SITE = "venv/lib/python3.11/site-packages"
RECORD = b"shop/models.py,sha256=x,1\nshop/__pycache__/models.pyc,,\nshop-1.dist-info/RECORD,,\n../../../bin/shop,,\n"


def test_a_package_that_was_installed_from_a_folder_is_the_applications_and_one_from_an_index_is_not() -> None:
    notes = {
        f"{SITE}/shop-1.dist-info/direct_url.json": b'{"dir_info": {}, "url": "file:///build"}',
        f"{SITE}/shop-1.dist-info/RECORD": RECORD,
        f"{SITE}/flask-3.dist-info/RECORD": b"flask/app.py,,\n",
        f"{SITE}/tools-1.dist-info/direct_url.json": b'{"dir_info": {"editable": true}, "url": "file:///srv"}',
        f"{SITE}/tools-1.dist-info/RECORD": b"__editable__tools.py,,\n",
    }
    assert own_packages(notes) == {f"{SITE}/shop/models.py"}
