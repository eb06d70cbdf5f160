"""CodeWorld through the core's doors: completion, verifier, doctor, settings."""

from __future__ import annotations

import pickle

import pytest
from scillm import completion
from scillm.errors import EngineError, UsageError
from scillm.plugins import settings
from scillm.plugins.registry import Registry
from scillm.portal import call
from scillm.protocols import Engine, Provider, Verifier
from scillm.records import Claim, Limits
from scillm.search import verify
from scillm_codeworld.plugin import CodeWorldPlugin
from scillm_codeworld.provider import CodeWorld
from scillm_codeworld.settings import ISOLATION_SETTINGS, SETTINGS, options_from

RIGHT = "def solve(x): return x * x"
ITEM = {
    "id": "square",
    "task": "Square the number.",
    "context": {
        "code_variants": {"a": RIGHT, "b": "def solve(x): return 0"},
        "inputs": [2, 3],
        "expected": [4, 9],
    },
}


def test_completion_runs_the_items_in_this_process():
    """`completion(model="codeworld", items=…)` needs no server and no key."""
    answer = completion(model="codeworld", items=[ITEM, {"task": "bad"}], seed=5, repeats=1)

    assert answer.choices[0].message.content == "CodeWorld: items=2, succeeded=1, failed=1"
    told = answer.additional_kwargs["codeworld"]
    assert told["summary"]["failed"] == 1
    assert told["results"][0]["best"] == "a"
    assert told["run_manifest"]["item_ids"] == ["square", "item-2"]
    assert told["run_manifest"]["job"]["seed"] == 5
    assert told["run_manifest"]["job"]["options"]["repeats"] == 1
    assert [row["id"] for row in told["run_manifest"]["findings"]] == [
        "square/a",
        "square/b",
        "item-2",
    ]


def test_a_models_suffix_names_the_strategy():
    """`codeworld/race` searches by racing; the search and its control stand in the result."""
    answer = completion(model="codeworld/race", items=[ITEM], repeats=0, seed=1)

    (result,) = answer.additional_kwargs["codeworld"]["results"]
    assert result["best"] == "a"
    assert result["search"]["strategy"] == "race"
    assert result["search"]["baseline"]["executions"] <= result["search"]["spent"]["executions"]


def test_the_answer_pickles_and_is_plain_json():
    """It can be kept and sent like any other completion."""
    answer = completion(model="codeworld", items=[ITEM], options={"repeats": 0})

    assert pickle.loads(pickle.dumps(answer)) == answer
    assert answer.to_dict()["choices"][0]["message"]["content"] == answer.text


def test_an_item_that_is_no_json_fails_alone_here_too():
    """NaN, tuples and objects of the caller's are named; the other item is run."""
    odd = {**ITEM, "id": "odd", "context": {**ITEM["context"], "expected": [4, float("nan")]}}

    answer = completion(model="codeworld", items=[odd, ITEM], options={"repeats": 0})

    first, second = answer.additional_kwargs["codeworld"]["results"]
    assert (first["item_id"], first["status"], second["status"]) == ("odd", "invalid", "solved")
    assert "['expected'][1] is nan" in first["reason"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({}, "items"),
        ({"items": []}, "items"),
        ({"items": "text"}, "items"),
        ({"items": [ITEM], "options": {"rollout": 5}}, "'rollout'"),
        ({"items": [ITEM], "strategy": "nosuch"}, "'nosuch'"),
        ({"items": [ITEM], "strategy": "mcts", "params": {"speed": 5}}, "'speed'"),
        ({"items": [ITEM], "model": "codeworld/mcts", "strategy": "race"}, "give one"),
        ({"items": [ITEM], "options": [1]}, "options"),
        ({"items": [ITEM], "options": {"width": 1}, "width": 1}, "width is given"),
        ({"items": [ITEM], "seed": "x"}, "seed"),
        ({"items": [ITEM], "temperature": 0}, "temperature"),
        ({"items": [ITEM], "top_p": 1}, "'top_p'"),
        ({"items": [ITEM], "messages": [{"role": "user", "content": "x"}]}, "messages"),
        ({"items": [ITEM], "api_base": "127.0.0.1:9"}, "bridge"),
        ({"items": [ITEM], "model": "codeworld/nosuch"}, "nosuch"),
        ({"items": [ITEM], "stream": True}, "stream"),
    ],
)
def test_what_codeworld_cannot_do_is_refused_by_name(arguments, named):
    """Nothing that was asked for is left out in silence."""
    with pytest.raises(UsageError, match=named):
        completion(**{"model": "codeworld", **arguments})


def test_a_job_that_takes_too_long_ends_and_says_so():
    """`timeout` bounds the whole call; nothing goes on running behind it."""
    loop = "def solve(x):\n    while True: pass"
    context = {"code_variants": {"a": loop}, "input": 1, "expected": 1}

    with pytest.raises(EngineError, match=r"timeout=0\.5 s"):
        completion(
            model="codeworld",
            items=[{"task": "t", "context": context}],
            timeout=0.5,
            options={"timeout_s": 60},
        )


def test_the_registry_finds_codeworld_by_name():
    """Provider, verifier, command and hooks are offered by the installed distribution."""
    registry = Registry()

    assert registry.get("scillm.providers", "codeworld") is CodeWorld
    assert issubclass(CodeWorld, Provider)
    assert issubclass(CodeWorld, Engine)
    assert isinstance(registry.get("scillm.verifiers", "codeworld")(), Verifier)
    assert registry.get("scillm.commands", "codeworld").name == "codeworld"
    assert registry.get("scillm.hooks", "codeworld") is CodeWorldPlugin


def test_the_doctor_runs_a_real_program():
    """`scillm doctor` says whether programs can be run here, and at which level."""
    check, *_ = CodeWorldPlugin().scillm_checks()

    assert check.ok is True
    assert check.detail.startswith("L")


def test_the_environment_sets_defaults_and_the_call_overrides_them():
    """A setting is a default: shown by `scillm config`, kept in the manifest, overridable."""
    environ = {"SCILLM_CODEWORLD_TIMEOUT_S": "2.5", "SCILLM_CODEWORLD_MEMORY_MB": "128"}
    values = settings.load(environ, more=SETTINGS)

    assert options_from(values, {}).timeout_s == 2.5
    assert options_from(values, {"timeout_s": 9}).timeout_s == 9
    assert options_from(values, {}).memory_mb == 128
    assert options_from({}, {}).memory_mb == 512


CLAIMS = {
    "right": ({"code": RIGHT, "inputs": [2, 3], "expected": [4, 9]}, True, "ok"),
    "wrong": ({"code": RIGHT, "inputs": [2, 3], "expected": [4, 8]}, False, "wrong"),
    "crash": (
        {"code": "def solve(x): return x / 0", "inputs": [1], "expected": [1]},
        False,
        "exception",
    ),
    "syntax": ({"code": "def", "inputs": [1], "expected": [1]}, False, "syntax_error"),
    "loop": (
        {"code": "def solve(x):\n    while True: pass", "inputs": [1], "expected": [1]},
        None,
        "timeout",
    ),
    "memory": (
        {"code": "def solve(x): return len(bytearray(4 << 30))", "inputs": [1], "expected": [1]},
        None,
        "memory",
    ),
    "slow as a whole": (
        {
            "code": "import time\ndef solve(x):\n    time.sleep(0.9)\n    return x",
            "inputs": [1, 1, 1, 1],
            "expected": [1, 1, 1, 1],
        },
        None,
        "timeout",
    ),
    "entry": (
        {"code": "def f(x): return x", "entry": "f", "inputs": [1], "expected": [1]},
        True,
        "ok",
    ),
    "tolerance": (
        {
            "code": "def solve(x): return x / 3",
            "inputs": [1],
            "expected": [0.3333],
            "tolerance": 1e-3,
        },
        True,
        "ok",
    ),
    "no mapping": ("text", None, "malformed"),
    "nothing expected": ({"code": RIGHT, "inputs": [1]}, None, "malformed"),
    "unequal": ({"code": RIGHT, "inputs": [1], "expected": [1, 2]}, None, "malformed"),
    "typo": ({"code": RIGHT, "inputs": [1], "expected": [1], "tolerence": 1}, None, "malformed"),
}


def test_a_claim_about_code_holds_only_when_every_case_ran_and_was_right():
    """True, false and undecided are three answers, and the last two have a reason."""
    claims = [Claim(id=name, statement=row[0]) for name, row in CLAIMS.items()]
    verifier = Registry().get("scillm.verifiers", "codeworld")()

    async def main():
        return await verify(verifier, claims, limits=Limits(time_s=2.0, memory_mb=256))

    verdicts = {verdict.claim_id: verdict for verdict in call(main)}

    found = {name: (verdict.holds, verdict.status) for name, verdict in verdicts.items()}
    assert found == {name: (holds, status) for name, (_, holds, status) in CLAIMS.items()}
    assert all(verdict.reason for verdict in verdicts.values() if not verdict.holds)
    assert verdicts["wrong"].reason == "case 2 of 2: answer must be 8, but is 9"
    assert verdicts["wrong"].evidence["right"] == 1
    assert verdicts["right"].evidence["isolation"] in {"L1", "L2", "L3", "L4"}


def test_the_wanted_isolation_stands_in_the_options_wherever_it_was_asked_for():
    """From the environment or the call: the record says what was asked, and the call wins."""
    values = settings.load(
        {"SCILLM_CODEWORLD_ISOLATION": "L2"}, more=(*SETTINGS, *ISOLATION_SETTINGS)
    )

    assert options_from(values, {}).isolation == "L2"
    assert options_from(values, {"isolation": "L1"}).isolation == "L1"
    assert options_from({}, {}).isolation is None
