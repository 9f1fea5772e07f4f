"""Streaming text: the pieces equal the whole, and stop texts are found wherever the tokens are cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from edgellm.engine.detokenize import MAX_PENDING, IncrementalDetokenizer, StopMatcher

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


def byte_tokenizer() -> Tokenizer:
    """One token per byte: every character beyond ASCII is cut in pieces."""
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(ALPHABET)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


BYTES = byte_tokenizer()


@given(st.text())
def test_pieces_add_up_to_the_text_and_no_piece_is_broken(text: str) -> None:
    detokenizer = IncrementalDetokenizer(BYTES.decode)
    pieces = [detokenizer.add(token) for token in BYTES.encode(text).ids]
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)
    assert "".join(pieces) + detokenizer.finish() == text


@given(st.lists(st.integers(0, 255), max_size=120))
def test_any_bytes_come_out_as_the_decoder_would_have_them(ids: list[int]) -> None:
    detokenizer = IncrementalDetokenizer(BYTES.decode)
    out = "".join([detokenizer.add(i) for i in ids]) + detokenizer.finish()
    whole = BYTES.decode(ids)
    assert out.replace("\ufffd", "") == whole.replace("\ufffd", "")


def test_an_endless_run_of_broken_bytes_does_not_pile_up() -> None:
    seen = []

    def decode(ids):  # type: ignore[no-untyped-def]
        seen.append(len(ids))
        return BYTES.decode(ids)

    detokenizer = IncrementalDetokenizer(decode)
    broken = BYTES.encode("é").ids[0]
    for _ in range(1000):
        detokenizer.add(broken)
    assert max(seen) <= 2 * MAX_PENDING


def test_spaces_between_metaspace_words_survive() -> None:
    tokenizer = Tokenizer(models.BPE({"▁Hello": 0, "▁world": 1, "▁": 2}, []))
    tokenizer.decoder = decoders.Metaspace()
    detokenizer = IncrementalDetokenizer(tokenizer.decode)
    assert [detokenizer.add(i) for i in (0, 1, 1)] == ["Hello", " world", " world"]


@given(st.text("abc", max_size=30), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), st.data())
def test_stop_is_found_for_any_cut_of_the_text(text: str, stops: list[str], data: st.DataObject) -> None:
    matcher = StopMatcher(stops)
    out, at, stopped = "", 0, False
    while at < len(text) and not stopped:
        step = data.draw(st.integers(1, 5))
        piece, stopped = matcher.add(text[at : at + step])
        out += piece
        at += step
    if not stopped:
        out += matcher.finish()
    fed = text[:at]
    ends = [fed.find(stop) for stop in stops if stop in fed]
    assert stopped == bool(ends)
    assert out == (fed[: min(ends)] if ends else text)


def test_text_that_may_become_a_stop_is_held_back() -> None:
    matcher = StopMatcher(["</end>"])
    assert matcher.add("fine <") == ("fine ", False)
    assert matcher.add("/en") == ("", False)
    assert matcher.add("x") == ("</enx", False)
    assert matcher.add("</end> more") == ("", True)
