"""Arguments: ours are understood, the provider's pass untouched, an SDK's are refused by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import UnsupportedParamError, UsageError
from scillm.models import ChatMessage
from scillm.routing.arguments import OURS, REFUSED, sorted_arguments

PROVIDERS_OWN = [
    "temperature", "top_p", "top_k", "min_p", "max_tokens", "max_completion_tokens", "n", "stop",
    "seed", "tools", "tool_choice", "parallel_tool_calls", "response_format", "logprobs", "user",
    "reasoning_effort", "reasoning", "metadata", "service_tier", "stream_options", "guided_json",
    "chat_template_kwargs", "thinking", "items", "strategy_config", "grammar", "keep_alive",
]  # fmt: skip


@pytest.mark.parametrize("name", PROVIDERS_OWN)
def test_provider_parameters_pass_through_untouched(name):
    """Whatever a provider understands reaches it, even if SciLLM has never heard of it."""
    value = {"any": ["thing"]}

    assert sorted_arguments({name: value}).params == {name: value}


@pytest.mark.parametrize(
    "name", [*REFUSED, "retry_harder", "_resolved_model_id", "scillm_x", "litellm_params"]
)
def test_sdk_arguments_are_refused_by_name(name):
    """An argument that only an SDK would use never leaks into a request body."""
    with pytest.raises(UnsupportedParamError, match=name) as caught:
        sorted_arguments({name: 1})

    assert caught.value.param == name


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("mesages", "messages"),
        ("api_bse", "api_base"),
        ("timeouts", "timeout"),
        ("custom_llm_providr", "custom_llm_provider"),
        ("extra_header", "extra_headers"),
    ],
)
def test_a_misspelt_argument_of_ours_is_refused_with_the_right_name(misspelt, meant):
    """A typing mistake is answered, not sent upstream."""
    with pytest.raises(UnsupportedParamError, match=f"did you mean '{meant}'"):
        sorted_arguments({misspelt: "x"})


def test_extra_body_is_the_way_around():
    """Any name at all can be sent through extra_body."""
    given_ = {"temperature": 1, "extra_body": {"_odd": 1, "retry_x": 2, "temperature": 0}}

    assert sorted_arguments(given_).params == {"temperature": 0, "_odd": 1, "retry_x": 2}


@given(st.dictionaries(st.sampled_from([*OURS, *PROVIDERS_OWN]), st.none()))
def test_none_means_not_given(arguments):
    """Passing None is the same as leaving the argument out."""
    assert sorted_arguments(arguments) == sorted_arguments({})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"messages": "hi"}, "messages must be a list"),
        ({"messages": {"role": "user"}}, "messages must be a list"),
        ({"messages": [{"role": "user"}, "hi"]}, r"messages\[1\]"),
        ({"model": ""}, "model is empty"),
        ({"model": 3}, "model must be text"),
        ({"api_key": " "}, "api_key is empty"),
        ({"api_base": ""}, "api_base is empty"),
        ({"api_base": "", "base_url": "http://b"}, "two names of one argument"),
        ({"timeout": 0}, "timeout must be"),
        ({"timeout": -1}, "timeout must be"),
        ({"timeout": True}, "timeout must be"),
        ({"timeout": float("nan")}, "timeout must be"),
        ({"timeout": "5"}, "timeout must be"),
        ({"extra_headers": ["a"]}, "extra_headers must be a mapping"),
        ({"extra_body": {1: 2}}, "extra_body must be a mapping"),
        ({"api_base": "http://a", "base_url": "http://b"}, "two names of one argument"),
    ],
)
def test_bad_values_are_refused_before_anything_is_sent(arguments, said):
    """The message says which argument, what was wanted and what came."""
    with pytest.raises(UsageError, match=said):
        sorted_arguments(arguments)


def test_an_answer_given_back_as_a_message_becomes_plain():
    """`messages.append(resp.choices[0].message)` just works."""
    messages = [{"role": "user", "content": "a"}, ChatMessage(content="b")]

    found = sorted_arguments({"messages": messages}).messages

    assert found == [messages[0], {"role": "assistant", "content": "b"}]
    assert found[0] is messages[0]


def test_keys_do_not_show_in_repr():
    """Arguments can be logged."""
    shown = repr(sorted_arguments({"api_key": "sk-secret", "extra_headers": {"x-key": "sk-2"}}))

    assert "sk-" not in shown
