"""Server-sent events: whatever the network does to the bytes, the events are the same."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import MalformedReplyError
from scillm.http import sse
from scillm.http.sse import ServerSentEvent, SSEDecoder

LINE = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12)
DATA = st.lists(LINE, min_size=1, max_size=3).map("\n".join)
END = st.sampled_from(["\n", "\r\n", "\r"])
COMMENT = st.sampled_from([": keep-alive", ":", ": OPENROUTER PROCESSING", "id: 7", "retry: 10"])


def decoded(pieces: list[bytes]) -> list[ServerSentEvent]:
    decoder = SSEDecoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events + decoder.finish()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in pairwise(edges)]


@given(
    events=st.lists(st.tuples(DATA, END, st.booleans(), st.none() | COMMENT), max_size=5),
    places=st.lists(st.integers(0, 10_000), max_size=20),
    bom=st.booleans(),
)
def test_events_survive_any_split_line_end_and_comment(events, places, bom):
    """Any split of the bytes, any line end, comments and a missing space change nothing."""
    text = "\ufeff" if bom else ""
    for data, end, space, comment in events:
        text += comment + end if comment else ""
        text += "".join(
            f"data:{' ' if space or line.startswith(' ') else ''}{line}{end}"
            for line in data.split("\n")
        )
        text += end

    found = decoded(cut(text.encode(), places))

    assert [event.data for event in found] == [data for data, _, _, _ in events]


def test_an_event_without_its_blank_line_is_handed_over_at_the_end():
    """A server that forgets the last blank line loses no event."""
    assert decoded([b'data: {"a": 1}\n\ndata: [DO', b"NE]"]) == [
        ServerSentEvent(data='{"a": 1}'),
        ServerSentEvent(data="[DONE]"),
    ]


def test_a_bare_json_line_is_an_event_marked_bare():
    """An error a gateway writes into the stream without `data:` is seen."""
    found = decoded([b'data: 1\n\n{"detail": "boom"}\n'])

    assert found[1] == ServerSentEvent(data='{"detail": "boom"}', bare=True)


def test_event_names_and_fields_without_colon_are_read():
    """`event: error` is kept; a field name alone has an empty value (WHATWG 9.2.6)."""
    found = decoded([b"event: error\ndata: x\n\ndata\n\nunknown\n\n"])

    assert found == [ServerSentEvent(data="x", event="error"), ServerSentEvent(data="")]


def test_an_event_that_never_ends_is_refused():
    """A line without end stops at the bound instead of filling the memory."""
    decoder = SSEDecoder()
    piece = b"data: " + b"x" * 1_000_000

    for _ in range(sse.MAX_EVENT_BYTES // len(piece)):
        assert decoder.feed(piece) == []
    with pytest.raises(MalformedReplyError, match="larger than"):
        decoder.feed(piece)


@given(st.text(min_size=1))
def test_a_character_split_over_two_pieces_stays_whole(text):
    """UTF-8 is decoded only when a line is complete."""
    line = text.replace("\r", "").replace("\n", "").encode("utf-8", "replace")

    found = decoded([bytes([byte]) for byte in b"data: " + line + b"\n\n"])

    assert [event.data for event in found] == [line.decode()]


def test_an_empty_piece_changes_nothing():
    """Transports may hand over nothing at all."""
    assert decoded([b"", b"data: a\n", b"", b"\n"]) == [ServerSentEvent(data="a")]


def test_a_line_end_split_between_its_two_bytes_ends_one_line():
    """CR at the end of one piece and LF at the start of the next are one line end."""
    assert decoded([b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n"]) == [ServerSentEvent(data="a\nb")]
