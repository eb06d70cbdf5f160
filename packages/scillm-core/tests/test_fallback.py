"""Fallbacks, patterns and the knobs of a call: read strictly, applied by error class."""

from __future__ import annotations

import pytest
import scillm
from hypothesis import given
from hypothesis import strategies as st
from scillm import errors
from scillm.plugins.settings import load
from scillm.routing.fallback import (
    Fallback,
    FallbackRules,
    filled,
    next_groups,
    pattern_match,
    read_table,
    read_targets,
    strangers,
)
from scillm.routing.options import router_arguments
from scillm.routing.policy import (
    call_tags,
    callbacks,
    fallback_rules,
    read_retry,
    retry_options,
    router_fallbacks,
)

WINDOW = errors.ContextWindowExceededError("x")
POLICY = errors.ContentPolicyViolationError("x")
DOWN = errors.InternalServerError("x")


def names(targets):
    return [target.model for target in targets]


def rules(**tables):
    return FallbackRules(**{name: read_table(name, table) for name, table in tables.items()})


def test_each_error_class_has_its_table():
    """Context and policy errors use their own lists; the rest the general one."""
    found = rules(
        general=[{"g": ["a"]}], context_window=[{"g": ["big"]}], content_policy=[{"g": ["lax"]}]
    )

    assert names(next_groups(DOWN, "g", found)) == ["a"]
    assert names(next_groups(WINDOW, "g", found)) == ["big"]
    assert names(next_groups(POLICY, "g", found)) == ["lax"]


def test_a_special_table_without_the_group_is_final_and_an_empty_one_is_not():
    """As LiteLLM's Router: with context_window_fallbacks set, their silence means no."""
    with_table = rules(general=[{"g": ["a"]}], context_window=[{"other": ["big"]}])

    assert next_groups(WINDOW, "g", with_table) == ()
    assert names(next_groups(WINDOW, "g", rules(general=[{"g": ["a"]}]))) == ["a"]
    assert names(next_groups(POLICY, "g", rules(general=[{"g": ["a"]}]))) == ["a"]


def test_a_refused_request_goes_nowhere():
    """A 400 for its content would be refused everywhere."""
    assert next_groups(errors.BadRequestError("x"), "g", rules(general=[{"g": ["a"]}])) == ()
    assert next_groups(errors.UsageError("x"), "g", rules(general=[{"g": ["a"]}])) == ()


def test_the_lookup_strips_the_provider_and_takes_the_star_last():
    """`openai/g` finds `g`; `*` stands for all others."""
    found = rules(general=[{"g": ["a"]}, {"*": ["z"]}])

    assert names(next_groups(DOWN, "openai/g", found)) == ["a"]
    assert names(next_groups(DOWN, "else", found)) == ["z"]
    assert next_groups(DOWN, "else", rules(general=[{"g": ["a"]}])) == ()


def test_targets_can_change_messages_and_parameters():
    """An object names the model and what is different."""
    (target,) = read_targets("fallbacks", [{"model": "b", "messages": [], "temperature": 0}])

    assert target == Fallback(model="b", changes={"messages": [], "temperature": 0})


def test_places_that_nobody_serves_are_found():
    """In every table, each once; a place with an address of its own needs no group."""
    found = FallbackRules(
        general=read_table("fallbacks", [{"g": ["a", "lost", {"model": "x", "api_base": "u"}]}]),
        context_window=read_table("context_window_fallbacks", [{"g": ["lost", "gone"]}]),
    )

    assert strangers(found, lambda name: name == "a") == ["lost", "gone"]


@pytest.mark.parametrize(
    ("to", "is_told"),
    [("b", False), ("nick", False), ("id-b", False), ("vendor/x", False), ("lost", True)],
)
def test_a_fallback_that_nobody_serves_is_told_when_the_router_is_made(caplog, to, is_told):
    """Not on the third night, when it is needed: groups, aliases, ids and patterns are known."""
    rows = [
        {"model_name": name, "litellm_params": {"model": "echo/m"}, "model_info": {"id": f"id-{n}"}}
        for name, n in (("a", "a"), ("b", "b"), ("vendor/*", "v"))
    ]
    scillm.Router(rows, fallbacks=[{"a": [to]}], model_group_alias={"nick": "b"}).close()

    assert ("no such group" in caplog.text) == is_told


@pytest.mark.parametrize(
    "value", ["x", [3], [{"g": "a"}], [{"g": [""]}], [{"g": [{"temperature": 1}]}], 7]
)
def test_malformed_fallbacks_are_refused(value):
    """The argument is named."""
    with pytest.raises(errors.UsageError, match="fallbacks"):
        read_table("fallbacks", value)


@pytest.mark.parametrize(
    ("model", "pattern", "stars"),
    [
        ("openai/gpt", "openai/*", ("gpt",)),
        ("openai/fo/x", "openai/fo*", ("/x",)),
        ("anthropic/x", "*", ("anthropic/x",)),
        ("a-b-c", "a-*-c", ("b",)),
    ],
)
def test_the_longest_pattern_wins(model, pattern, stars):
    """`vendor/*` groups serve what no group names; `*` comes last."""
    groups = ["*", "openai/*", "openai/fo*", "a-*-c", "plain"]

    assert pattern_match(model, groups) == (pattern, stars)


def test_without_a_fitting_pattern_there_is_none():
    """Names are not bent."""
    assert pattern_match("x/y", ["openai/*", "plain"]) is None


@given(st.text(max_size=8), st.text(max_size=8))
def test_a_filled_pattern_matches_itself(prefix, star):
    """What a pattern captured fills the same pattern back to the name."""
    template = prefix.replace("*", "") + "*"
    found = pattern_match(template.replace("*", star), [template])

    assert found == (template, (star,))
    assert filled(template, found[1]) == template.replace("*", star)
    assert filled("no star", ("x",)) == "no star"
    assert filled("a*b*c", ("1",)) == "a1b1c"
    assert filled("a*", ()) == "a"


# -- knobs --------------------------------------------------------------------------------------


def test_call_beats_row_beats_router_beats_environment():
    """The nearest word about retries counts."""
    settings = load({"SCILLM_RETRY_ENABLED": "1", "SCILLM_RETRY_BASE_S": "1"})

    found = retry_options(
        [
            {"retry_max_attempts": 2},
            {"num_retries": 4},
            {"retry_max_s": 9, "retry_max_attempts": 7},
        ],
        settings,
    )

    assert (found.enabled, found.max_attempts, found.base_s, found.max_s) == (True, 2, 1.0, 9.0)
    assert not retry_options([], load({})).enabled


def test_num_retries_counts_what_comes_after_the_first():
    """LiteLLM's num_retries=0 switches retrying off."""
    assert read_retry({"num_retries": 3}) == {"enabled": True, "max_attempts": 4}
    assert read_retry({"max_retries": 0}) == {"enabled": False, "max_attempts": 1}
    assert read_retry({"retry_policy": "none"}) == {"policy": "none", "enabled": False}
    assert read_retry(
        {"retry_policy": {"RateLimitErrorRetries": 3, "TimeoutErrorRetries": None}}
    ) == {
        "per_error": {"RateLimitError": 4},
        "enabled": True,
    }


@pytest.mark.parametrize(
    "layer",
    [
        {"num_retries": -1},
        {"num_retries": True},
        {"retry_enabled": 1},
        {"retry_base_s": "5"},
        {"retry_max_attempts": 2.5},
        {"retry_policy": 7},
        {"retry_policy": {"Nothing": 1}},
    ],
)
def test_bad_knobs_are_named(layer):
    """Nothing is guessed."""
    with pytest.raises(errors.UsageError, match=next(iter(layer))):
        read_retry(layer)


def test_callbacks_must_be_callable():
    """A string is no callback."""
    assert callbacks({"on_attempt": print}).on_attempt is print
    with pytest.raises(errors.UsageError, match="on_giveup"):
        callbacks({"on_giveup": "x"})


def test_a_call_can_bring_its_own_fallbacks_or_forbid_them():
    """A plain list is for this call's model; disable_fallbacks wins over everything."""
    base = router_fallbacks({"fallbacks": [{"g": ["a"]}], "default_fallbacks": ["z"]})

    own = fallback_rules({"fallbacks": ["b", {"model": "c"}]}, model="g", base=base)
    table = fallback_rules({"fallbacks": [{"g": ["d"]}], "max_fallbacks": 1}, model="g", base=base)

    assert names(next_groups(DOWN, "g", base)) == ["a"]
    assert names(next_groups(DOWN, "other", base)) == ["z"]
    assert names(next_groups(DOWN, "g", own)) == ["b", "c"]
    assert names(next_groups(DOWN, "g", table)) == ["d"]
    assert table.most == 1
    off = fallback_rules({"disable_fallbacks": True}, model="g", base=base)
    assert next_groups(DOWN, "g", off) == ()
    assert router_fallbacks({"max_fallbacks": 2}).most == 2


def test_tags_are_a_list_of_texts():
    """A single text is not spelt out letter by letter."""
    assert call_tags({"tags": ["a"]}) == ("a",)
    assert call_tags({}) == ()
    with pytest.raises(errors.UsageError, match="tags"):
        call_tags({"tags": "ab"})


def test_the_routers_arguments_are_read():
    """Every known argument has its effect on what is read."""
    found = router_arguments(
        {
            "routing_strategy": "latency-based-routing",
            "routing_strategy_args": {"ttl": 60, "lowest_latency_buffer": 0.5},
            "num_retries": 2,
            "model_group_alias": {"x": "g", "y": {"model": "h"}},
            "cooldown_time": 9,
            "allowed_fails": 3,
            "allowed_fails_policy": {"TimeoutErrorAllowedFails": 2},
            "disable_cooldowns": True,
        }
    )

    assert (found.strategy, found.latency_ttl_s, found.latency_buffer) == (
        "latency-based-routing", 60.0, 0.5,
    )  # fmt: skip
    assert found.aliases == {"x": "g", "y": "h"}
    assert found.knobs == {"num_retries": 2}
    assert (found.cooldown.default_s, found.cooldown.allowed_fails) == (9.0, 3)
    assert found.cooldown.allowed_fails_by_error == {"APITimeoutError": 2}
    assert found.cooldown.disabled


@pytest.mark.parametrize(
    "given_",
    [
        {"routing_strategy": "x"},
        {"routing_strategy_args": {"x": 1}},
        {"routing_strategy_args": 3},
        {"model_group_alias": {"a": ""}},
        {"cooldown_time": "5"},
        {"allowed_fails": -1},
        {"allowed_fails_policy": {"X": 1}},
        {"num_retries": "3"},
        {"nothing_like_it": 1},
    ],
)
def test_bad_router_arguments_are_named(given_):
    """The message starts from the argument's name."""
    name = next(iter(given_))

    with pytest.raises(errors.UsageError, match=name):
        router_arguments(given_)
