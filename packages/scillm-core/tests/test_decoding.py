"""Compressed bodies: whatever was encoded comes out, whatever is cut is noticed."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.http.decoding import Undecodable, decoder_for
from scillm.http.outcomes import shown, unusable_url


def raw_deflate(data):
    squeeze = zlib.compressobj(wbits=-15)
    return squeeze.compress(data) + squeeze.flush()


ENCODERS = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress}


def decoded(coding, data, size):
    decoder = decoder_for(coding)
    pieces = [decoder.feed(data[start : start + size]) for start in range(0, len(data), size)]
    return b"".join([*pieces, decoder.finish()])


@given(
    body=st.binary(max_size=500),
    codings=st.lists(st.sampled_from(list(ENCODERS)), min_size=1, max_size=3),
    size=st.integers(1, 50),
)
def test_every_coding_is_undone(body, codings, size):
    """One coding or several, in pieces of any size."""
    data = body
    for coding in codings:
        data = ENCODERS[coding](data)

    assert decoded(" , ".join(codings).upper(), data, size) == body


@given(body=st.binary(max_size=300), size=st.integers(1, 50))
def test_deflate_without_its_header_is_understood(body, size):
    """Some servers send raw deflate under that name."""
    assert decoded("deflate", raw_deflate(body), size) == body


@given(bodies=st.lists(st.binary(max_size=50), min_size=1, max_size=4), size=st.integers(1, 50))
def test_gzip_members_are_joined(bodies, size):
    """RFC 1952: a gzip file is a series of members."""
    assert decoded("gzip", b"".join(map(gzip.compress, bodies)), size) == b"".join(bodies)


@given(
    body=st.binary(max_size=200),
    coding=st.sampled_from(["gzip", "deflate"]),
    cut=st.integers(1, 7),
)
def test_a_cut_body_is_noticed(body, coding, cut):
    """Data that lacks its end is not an answer."""
    with pytest.raises(Undecodable):
        decoded(coding, ENCODERS[coding](body)[:-cut], 10)


@pytest.mark.parametrize("header", ["", " ", "identity", "Identity, identity"])
def test_an_unencoded_body_needs_no_decoder(header):
    """Nothing to undo."""
    assert decoder_for(header) is None


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_an_empty_body_is_whole(coding):
    """A 204 may name a coding and have no body."""
    decoder = decoder_for(coding)

    assert decoder.feed(b"") + decoder.finish() == b""


def test_a_coding_that_was_not_asked_for_is_named():
    """`br` cannot be read, and is not passed on as text."""
    with pytest.raises(Undecodable, match="'br'"):
        decoder_for("gzip, br")


def test_garbage_is_refused():
    """Neither zlib nor raw deflate."""
    with pytest.raises(Undecodable):
        decoded("deflate", b"\xff" * 20, 20)
    with pytest.raises(Undecodable):
        decoded("deflate", zlib.compress(b"abc" * 50)[:10] + b"\xff" * 30, 10)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://u:p@h:1/a/b?key=s#f", "https://h:1/a/b"),
        ("http://h", "http://h"),
        ("h:80?x", "h:80"),
        ("http://u:p@[::1]/", "http://[::1]/"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url, text):
    """Neither credentials nor query stand in an error."""
    assert shown(url) == text
    assert "check api_base" in str(unusable_url(url))
    assert "(odd)" in str(unusable_url(url, "odd"))
