"""A Router's deployments can be replaced while it works."""

from __future__ import annotations

import pytest
from scillm import Router
from scillm.errors import UnknownModelError, UsageError

HELLO = [{"role": "user", "content": "Hello"}]


def row(group: str, model: str, **params: object) -> dict[str, object]:
    return {"model_name": group, "litellm_params": {"model": f"echo/{model}", **params}}


def test_another_list_takes_the_place_of_the_first() -> None:
    """New groups answer, old ones are gone, and the order is the new one."""
    router = Router(
        [row("old", "a"), row("kept", "first", order=1), row("kept", "second", order=2)]
    )
    before = router.completion("kept", HELLO).model
    router.set_model_list(
        [row("kept", "first", order=2), row("kept", "second", order=1), row("new", "b")]
    )
    after = router.completion("kept", HELLO).model
    with pytest.raises(UnknownModelError):
        router.completion("old", HELLO)

    assert (before, after) == ("first", "second")
    assert router.completion("new", HELLO).model == "b"
    assert [entry["model_name"] for entry in router.model_list] == ["kept", "kept", "new"]


def test_a_wrong_list_changes_nothing() -> None:
    """The refusal names the row, and the Router goes on as it was."""
    router = Router([row("group", "a")])
    with pytest.raises(UsageError, match=r"model_list\[1\]"):
        router.set_model_list([row("group", "b"), {"model_name": "", "litellm_params": {}}])

    assert router.completion("group", HELLO).model == "a"
    assert len(router.model_list) == 1
