"""Deployments: a model_list is checked when the Router is made, row by row."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import UsageError
from scillm.routing.arguments import sorted_arguments
from scillm.routing.choose import levels_of
from scillm.routing.deployment import merged, read_model_list


def row(group="g", **params):
    return {"model_name": group, "litellm_params": {"model": "echo/m", **params}}


@given(st.lists(st.integers(-3, 3), max_size=8))
def test_lower_order_comes_first_and_the_list_decides_ties(orders):
    """One level per order, lowest first; equal orders stay as listed."""
    rows = [row(order=order, api_base=f"http://h{n}") for n, order in enumerate(orders)]

    levels = levels_of(list(enumerate(read_model_list(rows))))

    keys = [
        (d.order, position)
        for lv in levels
        for position, d in zip(lv.positions, lv.deployments, strict=True)
    ]
    assert keys == sorted(keys)
    assert len(keys) == len(orders)
    assert len(levels) == len(set(orders))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("x", "must be a list"),
        ([3], r"model_list\[0\] must be an object"),
        ([{"model_name": "g"}], r"model_list\[0\] needs litellm_params"),
        ([{"model_name": "", "litellm_params": {}}], "needs a model_name"),
        ([{**row(), "weights": 1}], "has weights"),
        ([row(model="")], "was an environment variable not set"),
        ([row(model=None)], "was an environment variable not set"),
        ([row(), row(max_budget=3)], r"model_list\[1\] \(g\): max_budget"),
        ([row(rpm=-1)], "rpm must be a number"),
        ([row(weight="1")], "weight must be a number"),
        ([row(max_parallel_requests=0)], "max_parallel_requests must be a whole number above 0"),
        ([row(tags="a")], "tags must be a list"),
        ([row(order="1")], "order must be a whole number"),
        ([row(api_key="")], "api_key is empty"),
        ([row(messages=[])], "belongs to the call"),
        ([row(num_retries=-3)], "num_retries"),
        ([row(), row()], "the same deployment"),
    ],
)
def test_a_bad_row_is_refused_by_number(rows, said):
    """Which row, what is wrong with it, what to do."""
    with pytest.raises(UsageError, match=said):
        read_model_list(rows)


def test_the_callers_rows_are_not_changed():
    """model_list can be shared between Routers."""
    rows = [row(order=2, temperature=0.5)]
    before = copy.deepcopy(rows)

    read_model_list(rows)

    assert rows == before


def test_ids_are_stable_and_hold_no_secret():
    """The same row has the same id in every process, and the key is not part of it."""
    one, two = read_model_list([row(api_key="sk-1")]), read_model_list([row(api_key="sk-2")])

    assert one[0].id == two[0].id
    assert "sk-" not in repr(one)


def test_the_call_wins_over_the_deployments_parameters_but_not_over_its_address():
    """Defaults of a row can be overridden per call; where it goes cannot."""
    deployment = read_model_list([row(temperature=0.1, top_p=0.2, api_base="http://h")])[0]
    call = sorted_arguments({"model": "g", "temperature": 0.9, "timeout": 3})

    found = merged(call, deployment.arguments)

    assert found.params == {"temperature": 0.9, "top_p": 0.2}
    assert (found.api_base, found.timeout_s, found.model) == ("http://h", 3.0, "echo/m")
