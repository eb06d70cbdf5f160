"""What this provider promises beyond what every provider does."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import UnsupportedParamError
from scillm.records import ChatRequest
from scillm_markov.answer import answer_to

TEXTS = st.lists(st.text("ab c", max_size=30), min_size=1, max_size=4)


def ask(texts, **params):
    messages = [{"role": "user", "content": text} for text in texts]
    return answer_to(ChatRequest(model="m", messages=messages, params=params), provider="markov")


@given(texts=TEXTS, seed=st.integers(0, 9), most=st.integers(1, 9))
def test_every_step_was_said_before(texts, seed, most):
    """Neighbours in an answer are neighbours in the conversation."""
    said = ask(texts, seed=seed, max_tokens=most).text.split()
    heard = {pair for text in texts for pair in pairwise(text.split())}

    assert set(pairwise(said)) <= heard


@given(texts=TEXTS, seed=st.integers(0, 9), most=st.integers(1, 9))
def test_an_answer_is_cut_off_only_at_max_tokens(texts, seed, most):
    """An answer has at most max_tokens words, and says `length` if it would have gone on."""
    answer = ask(texts, seed=seed, max_tokens=most)
    longer = ask(texts, seed=seed, max_tokens=most + 1)

    assert answer["usage"]["completion_tokens"] == len(answer.text.split()) <= most
    goes_on = longer["usage"]["completion_tokens"] > most
    assert answer.choices[0].finish_reason == ("length" if goes_on else "stop")


@pytest.mark.parametrize("params", [{"temperature": 0.5}, {"max_tokens": 0}, {"seed": "seven"}])
def test_what_it_cannot_honour_it_refuses(params):
    """A parameter without effect is an error that names it, not a silent no."""
    with pytest.raises(UnsupportedParamError) as caught:
        ask(["a b"], **params)

    assert caught.value.param in params
