"""However a flood comes in, what is kept of it is bounded and begins and ends as it did."""

from hypothesis import given
from hypothesis import strategies as st

from delivery.kept_text import TwoEnds, two_ends


@given(st.lists(st.binary(max_size=50), max_size=60), st.integers(2, 200))
def test_both_ends_are_kept_and_the_rest_is_counted(pieces: list[bytes], limit: int) -> None:
    ends, whole, half = TwoEnds(limit), b"".join(pieces), limit // 2
    kept = b"".join(ends.take(piece) for piece in pieces) + ends.ending()
    if len(whole) <= 2 * half:
        assert kept == whole
        return
    cut = len(whole) - 2 * half
    assert kept == whole[:half] + f"\n[... {cut:,} bytes were left out here ...]\n".encode() + whole[-half:]


@given(st.binary(max_size=500), st.integers(2, 100))
def test_a_text_at_once_is_cut_like_one_in_pieces(text: bytes, limit: int) -> None:
    ends = TwoEnds(limit)
    assert two_ends(text, limit) == b"".join(ends.take(text[n : n + 7]) for n in range(0, len(text), 7)) + ends.ending()
