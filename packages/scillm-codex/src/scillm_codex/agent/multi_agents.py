"""`scillm.extras.multi_agents`: several models on one task, and a judge who cannot be talked round.

Every function has an async form with an `a` in front. Failures are told, never taken for answers.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from scillm import portal

from scillm_codex.agent.asking_many import aanswer_text_multi, aspawn_codex_agents
from scillm_codex.agent.coding_many import (
    aanswer_code_autogen_and_judge_codex_only,
    aanswer_code_mcts,
    aanswer_code_mcts_autogen,
    aanswer_code_mcts_autogen_and_judge,
    acodex_judge_codeworld_result,
)
from scillm_codex.agent.ensuring import aensure_codex_agent, ensure_codex_agent

if TYPE_CHECKING:
    from scillm.models import Completion
    from scillm.records import Json


def spawn_codex_agents(*args: Any, **options: Any) -> list[dict[str, Json]]:
    """The synchronous form of `aspawn_codex_agents`."""
    return portal.call(partial(aspawn_codex_agents, *args, **options))


def answer_text_multi(*args: Any, **options: Any) -> dict[str, Json]:
    """The synchronous form of `aanswer_text_multi`."""
    return portal.call(partial(aanswer_text_multi, *args, **options))


def answer_code_mcts(*args: Any, **options: Any) -> Completion:
    """The synchronous form of `aanswer_code_mcts`."""
    return portal.call(partial(aanswer_code_mcts, *args, **options))


def answer_code_mcts_autogen(*args: Any, **options: Any) -> Completion:
    """The synchronous form of `aanswer_code_mcts_autogen`."""
    return portal.call(partial(aanswer_code_mcts_autogen, *args, **options))


def codex_judge_codeworld_result(*args: Any, **options: Any) -> dict[str, Json]:
    """The synchronous form of `acodex_judge_codeworld_result`."""
    return portal.call(partial(acodex_judge_codeworld_result, *args, **options))


def answer_code_mcts_autogen_and_judge(*args: Any, **options: Any) -> dict[str, Json]:
    """The synchronous form of `aanswer_code_mcts_autogen_and_judge`."""
    return portal.call(partial(aanswer_code_mcts_autogen_and_judge, *args, **options))


def answer_code_autogen_and_judge_codex_only(*args: Any, **options: Any) -> dict[str, Json]:
    """The synchronous form of `aanswer_code_autogen_and_judge_codex_only`."""
    return portal.call(partial(aanswer_code_autogen_and_judge_codex_only, *args, **options))


__all__ = [
    "aanswer_code_autogen_and_judge_codex_only",
    "aanswer_code_mcts",
    "aanswer_code_mcts_autogen",
    "aanswer_code_mcts_autogen_and_judge",
    "aanswer_text_multi",
    "acodex_judge_codeworld_result",
    "aensure_codex_agent",
    "answer_code_autogen_and_judge_codex_only",
    "answer_code_mcts",
    "answer_code_mcts_autogen",
    "answer_code_mcts_autogen_and_judge",
    "answer_text_multi",
    "aspawn_codex_agents",
    "codex_judge_codeworld_result",
    "ensure_codex_agent",
    "spawn_codex_agents",
]
