"""Ranking: who is asked first, who is left out, and why."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import MalformedReplyError, UsageError
from scillm.records import ChatRequest, EmbeddingRequest
from scillm_chutes.capability import can, needs_of_kind, needs_of_request
from scillm_chutes.fake import default_models
from scillm_chutes.ranking import RankRules, Seen, candidates, official_terms, rank
from scillm_chutes.reading import read_catalog, read_feed, unix_time
from scillm_chutes.records import Busyness, Catalog, Feed, Model

NOW = 1_795_000_000.0
MODELS = [model for model in default_models() if model.in_catalog]
CATALOG = read_catalog({"data": [model.catalog_row() for model in MODELS]}, now=NOW)
FEED = read_feed([m.feed_row(NOW - 600) for m in default_models() if m.in_feed], now=NOW)

shares = st.floats(0, 1)
busy = st.builds(
    Busyness,
    name=st.just("x"),
    used_now=shares,
    used_5m=st.none() | shares,
    used_15m=st.none() | shares,
    used_1h=st.none() | shares,
    refused_5m=shares,
    refused_15m=shares,
    refused_1h=shares,
    active=st.integers(0, 50),
    scalable=st.booleans(),
    scale_allowance=st.floats(0, 20),
)
feeds = st.lists(busy, min_size=9, max_size=9).map(
    lambda rows: Feed(
        rows={i: evolve(r, name=i) for i, r in zip(CATALOG.ids, rows, strict=True)}, at=NOW
    )
)


def test_the_official_formula_is_the_official_one() -> None:
    """10 active, use .5/.3/.2, refused .1/.3/.6, 4 allowed; by hand: 10·(1-.41) + .2 - 20·.15."""
    row = Busyness(
        name="x",
        used_5m=0.5,
        used_15m=0.3,
        used_1h=0.2,
        refused_5m=0.1,
        refused_15m=0.3,
        refused_1h=0.6,
        active=10,
        scalable=True,
        scale_allowance=4,
    )

    assert sum(official_terms(row).values()) == pytest.approx(5.9 + 0.2 - 3.0)


def test_a_row_of_the_feed_is_read_as_the_service_writes_it() -> None:
    """Moments without a zone are UTC; private chutes are left out; ratios stay ratios."""
    assert unix_time("1970-01-02T00:00:01.5") == 86_401.5
    assert "[private chute]" not in FEED.rows
    assert FEED.at == pytest.approx(NOW - 600, abs=1.0)
    assert FEED.rows["fir/Fir-R1-0528-TEE"].refused_1h == 0.475


@pytest.mark.parametrize("document", [[], {}, None, "x", {"data": {}}])
def test_another_shape_is_no_feed_and_no_catalog(document: object) -> None:
    """An error page or an empty list never replaces what was known."""
    with pytest.raises(MalformedReplyError):
        read_feed(document, now=NOW)
    with pytest.raises(MalformedReplyError):
        read_catalog(document, now=NOW)


def test_capabilities_have_three_states() -> None:
    """A row that is silent says `unknown`, not `no`; both spellings of structured outputs count."""
    silent = CATALOG.find("dogwood/Dogwood-K2-Instruct-0905")
    singular = CATALOG.find("elm/Elm-8B")
    base = CATALOG.find("acme/Alder-3-32B-Base")
    assert silent is not None
    assert singular is not None
    assert base is not None

    assert [can(m, "schema") for m in (singular, base, silent)] == [True, False, None]


def test_kinds_and_requests_say_what_they_need() -> None:
    """Tools, JSON and images in a request are needs; an unknown kind names the known ones."""
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
    params = {"tools": [{}], "response_format": {"type": "json_schema"}}
    with pytest.raises(UsageError, match="text, vlm, tools, embedding"):
        needs_of_kind("audio")

    seen = ChatRequest(model="m", messages=image, params=params)
    assert needs_of_request(seen) == {"text", "vision", "tools", "schema"}
    assert needs_of_request(EmbeddingRequest(model="m", input="x")) == {"embedding"}
    assert needs_of_kind("vlm", require_json=True) == {"text", "vision", "json"}


def test_who_is_left_out_is_told_why() -> None:
    """No capability, silence where it counts, no instance: each has its reason."""
    rules = RankRules(needs={"text", "tools"}, allow_unsaid=False)
    reasons = {row.id: row.left_out for row in rank(CATALOG, FEED, now=NOW, rules=rules)}

    assert reasons["elm/Elm-8B"] == "cannot do tools"
    assert reasons["gum/Gum-2-7B"] == "no active instance"
    assert reasons["dogwood/Dogwood-K2-Instruct-0905"] == "does not say whether it can do tools"
    assert reasons["acme/Alder-3-32B"] == ""


@given(feed=feeds, official=st.booleans(), price=st.floats(0, 1))
def test_the_terms_explain_the_score(feed: Feed, official: bool, price: float) -> None:
    """The shown terms sum to the score, every model is there once, and the best comes first."""
    rules = RankRules(official=official, price_weight=price)
    ranked = rank(CATALOG, feed, now=NOW, rules=rules)
    scores = [row.score for row in ranked if not row.left_out]

    assert all(row.score == pytest.approx(sum(row.terms.values())) for row in ranked)
    assert sorted(row.id for row in ranked) == sorted(CATALOG.ids)
    assert scores == sorted(scores, reverse=True)


@given(feed=feeds, age=st.floats(2701, 1e6))
def test_a_stale_feed_changes_nothing(feed: Feed, age: float) -> None:
    """After 45 minutes the feed describes the past: the order is that of the catalog."""
    old = evolve(feed, at=NOW - age)

    assert rank(CATALOG, old, now=NOW) == rank(CATALOG, None, now=NOW)


@given(feed=feeds, jitter=st.lists(st.floats(-0.015, 0.015), min_size=20, max_size=20))
def test_near_equals_do_not_flap(feed: Feed, jitter: list[float]) -> None:
    """Two models within the margin keep their places while noise moves them up and down."""
    twins = Catalog(models=(Model(id="a"), Model(id="b")), at=NOW)
    row = Busyness(name="a", used_5m=0.5, active=5)
    leaders = set()
    leader: str | None = None
    for noise in jitter:
        rows = {"a": row, "b": evolve(row, name="b", used_5m=0.5 + noise)}
        leader = candidates(rank(twins, Feed(rows=rows, at=NOW), now=NOW, incumbent=leader))[0]
        leaders.add(leader)

    assert len(leaders) == 1


@given(feed=feeds)
def test_our_own_refusals_count_at_once(feed: Feed) -> None:
    """A model that refuses us and rests falls behind every one that may be asked."""
    first = next(iter(candidates(rank(CATALOG, feed, now=NOW))), None)
    if first is None:
        return
    seen = {first: Seen(refused=1.0, rest_s=5.0)}
    after = candidates(rank(CATALOG, feed, now=NOW, seen=seen, incumbent=first))

    assert after[-1] == first


def test_price_breaks_ties_and_can_weigh_more() -> None:
    """Equal models: the cheaper first; with a weight a cheap, busier one can win."""
    dear, cheap = (
        Model(id="dear", prompt_usd=2e-6, completion_usd=2e-6),
        Model(id="cheap", prompt_usd=1e-7, completion_usd=1e-7),
    )
    pair = Catalog(models=(dear, cheap), at=NOW)
    rows = {
        "dear": Busyness(name="dear", used_5m=0.1, active=8),
        "cheap": Busyness(name="cheap", used_5m=0.5, active=8),
    }
    weighed = RankRules(price_weight=0.5)

    assert candidates(rank(pair, None, now=NOW)) == ["cheap", "dear"]
    assert candidates(rank(pair, Feed(rows=rows, at=NOW), now=NOW))[0] == "dear"
    assert candidates(rank(pair, Feed(rows=rows, at=NOW), now=NOW, rules=weighed))[0] == "cheap"


def test_a_moment_that_no_calendar_has_is_none() -> None:
    """Month 13 is not read as January."""
    assert unix_time("2026-13-01T00:00:00") is None
    assert unix_time("2026-12-01T00:00:00.5") == 1_796_083_200.5
