import pytest
from markdown_it import MarkdownIt

from tasks.markdown import length, one_line, table


@pytest.mark.parametrize(
    "foreign",
    ["<script>alert(1)</script>", "![x](http://127.0.0.1:9/p.png)", "[x](javascript:alert(1))", "<http://127.0.0.1:9>", "a\n\n# b"],
)
def test_foreign_text_stays_text_wherever_markdown_is_shown(foreign: str) -> None:
    shown = MarkdownIt("commonmark", {"html": True}).render(one_line(foreign))
    assert "<" not in shown.removeprefix("<p>").removesuffix("</p>\n")


def test_foreign_text_has_a_bounded_length() -> None:
    assert len(one_line("x" * 9999)) == 300


def test_a_cell_may_hold_what_parts_cells() -> None:
    rendered = MarkdownIt("commonmark").enable("table").render(table(("a", "b"), [("1|2", "3")]))
    assert "<td>1|2</td>" in rendered


@pytest.mark.parametrize(("seconds", "told"), [(0.04, "0.0 s"), (59.9, "59.9 s"), (60, "1 min"), (95, "1 min 35 s"), (3600, "60 min")])
def test_lengths_read_well(seconds: float, told: str) -> None:
    assert length(seconds) == told
