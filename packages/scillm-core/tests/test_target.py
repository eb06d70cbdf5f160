"""Targets: a model's name says who is asked, or an error says how to say it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import UnknownModelError
from scillm.routing.target import Target, target_of

KNOWN = ("echo", "openai", "openai_like", "codeworld")


def target(model, provider=None, api_base=None, default=None):
    return target_of(
        model,
        provider=provider,
        api_base=api_base,
        known=KNOWN,
        default_provider=default,
        missing=lambda name: f"pip install for {name}",
    )


@pytest.mark.parametrize(
    ("call", "provider", "model"),
    [
        ({"model": "openai/gpt-x"}, "openai", "gpt-x"),
        ({"model": "openai/org/model"}, "openai", "org/model"),
        ({"model": "codeworld"}, "codeworld", "codeworld"),
        ({"model": "codeworld/mcts"}, "codeworld", "mcts"),
        ({"model": "org/m", "api_base": "http://x"}, "openai_like", "org/m"),
        ({"model": "m", "api_base": "http://x"}, "openai_like", "m"),
        ({"model": "m", "provider": "echo"}, "echo", "m"),
        ({"model": "echo/m", "provider": "echo"}, "echo", "m"),
        ({"model": "openai/gpt-oss", "provider": "openai_like"}, "openai_like", "openai/gpt-oss"),
        ({"model": "org/m", "default": "openai"}, "openai", "org/m"),
        ({"model": "echo/m", "default": "openai"}, "echo", "m"),
    ],
)
def test_the_rules_of_where_a_model_goes(call, provider, model):
    """Provider argument, then prefix, then provider name, then api_base, then the default."""
    assert target(**call) == Target(provider=provider, model=model)


def test_our_own_missing_package_is_named_even_with_an_api_base():
    """`codex-agent/…` without its package gives the pip line instead of a wrong request."""
    with pytest.raises(UnknownModelError, match="pip install for codex-agent"):
        target("codex-agent/gpt", api_base="http://x")


@given(st.text(min_size=1).filter(lambda m: m.partition("/")[0] not in KNOWN))
def test_without_any_hint_a_model_is_never_guessed(model):
    """No provider is made up."""
    with pytest.raises(UnknownModelError):
        target(model)
