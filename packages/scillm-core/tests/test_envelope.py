"""The bridge's envelope: what clients write is what the engine gets, or an error that says why."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import MalformedReplyError, UsageError
from scillm.providers.bridge_wire import read_result, write_job
from scillm.records import Job, JobResult
from scillm.runs.manifest import finding
from scillm.serve.envelope import EnvelopeSpec, read_envelope
from scillm.serve.envelope_result import write_result
from scillm.serve.seed_envelopes import CERTAINLY, CODEWORLD

PLAIN = EnvelopeSpec(engine="plain", schema="plain@v1")
ITEM = {"task": "t"}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
option_names = st.text(min_size=1).filter(lambda name: name not in {"seed", "messages"})
jobs = st.builds(
    lambda items, options, shared, messages, seed: Job(
        engine="plain",
        items=items,
        options={
            **{k: v for k, v in options.items() if k not in ("max_seconds", "session_id")},
            **shared,
            **({"messages": messages} if messages else {}),
        },
        seed=seed,
    ),
    items=st.lists(json_values, min_size=1, max_size=4),
    options=st.dictionaries(
        option_names.filter(lambda n: n != "track_id"), json_values, max_size=4
    ),
    shared=st.fixed_dictionaries(
        {},
        optional={
            "max_seconds": st.floats(min_value=0.1, max_value=1e6),
            "session_id": st.text(),
            "track_id": st.text(),
        },
    ),
    messages=st.lists(st.dictionaries(st.text(), st.text(), max_size=2), max_size=2),
    seed=st.integers(),
)


@given(job=jobs)
def test_a_job_survives_the_way_to_a_bridge(job: Job) -> None:
    """What our client writes is read as the same job, whatever is in it."""
    document = json.loads(json.dumps(write_job(job)))

    read = read_envelope(document, PLAIN)

    assert read.job == job
    assert read.warnings == ()


@given(
    summary=st.dictionaries(st.text(), json_values, max_size=3),
    rows=st.lists(st.dictionaries(st.text(), json_values, max_size=3), max_size=3),
    values=st.lists(json_values, max_size=3),
    environment=st.dictionaries(st.text(), json_values, max_size=3),
)
def test_a_result_survives_the_way_back(
    summary: dict[str, Any],
    rows: list[dict[str, Any]],
    values: list[Any],
    environment: dict[str, Any],
) -> None:
    """What an engine gave is what the client's engine gives, findings and environment included."""
    found = [finding(str(number), value) for number, value in enumerate(values)]
    result = JobResult(summary=summary, results=rows, findings=found, environment=environment)
    envelope = read_envelope({"items": [ITEM]}, PLAIN)

    body = write_result(result, envelope, PLAIN, run_id="r", ts=1.0, duration_ms=2.0)

    assert read_result(json.loads(json.dumps(body))) == result


@given(
    document=json_values
    | st.dictionaries(
        st.sampled_from(
            ["items", "messages", "provider", "options", "seed", "async", "max_seconds", "session"]
        ),
        json_values,
    )
)
@pytest.mark.parametrize("spec", [PLAIN, CODEWORLD, CERTAINLY], ids=lambda spec: spec.engine)
def test_any_json_is_a_job_or_a_usage_error(spec: EnvelopeSpec, document: Any) -> None:
    """A request never breaks the server: it is read, or refused in words."""
    try:
        job = read_envelope(document, spec).job
    except UsageError as error:
        told = error.message
    else:
        told = f"{job.engine} works on {len(job.items)} items"

    assert len(told) > 20


def test_the_documented_codeworld_request_is_understood() -> None:
    """The quickstart of the earlier SciLLM: autogenerate, then search (seeds, 003)."""
    document = {
        "messages": [{"role": "user", "content": "Autogenerate variants then search"}],
        "items": [{"task": "mcts-live-auto", "context": {}}],
        "provider": {
            "name": "codeworld",
            "args": {
                "strategy": "mcts",
                "strategy_config": {
                    "autogenerate": {"enabled": True, "n": 3},
                    "rollouts": 24,
                    "depth": 6,
                    "exploration_constant": 1.25,
                    "seed": 7,
                },
            },
        },
    }

    read = read_envelope(document, CODEWORLD)

    assert read.job == Job(
        engine="codeworld",
        items=[{"task": "mcts-live-auto", "context": {}}],
        options={
            "strategy": "mcts",
            "autogenerate": {"enabled": True, "n": 3},
            "rollouts": 24,
            "depth": 6,
            "uct_c": 1.25,
            "messages": document["messages"],
        },
        seed=7,
    )
    assert read.warnings == ()


@pytest.mark.parametrize(
    ("alias", "name", "value"),
    [
        ("codeworld_metrics", "metrics", ["speed"]),
        ("codeworld_iterations", "iterations", 3),
        ("codeworld_allowed_languages", "allowed_languages", ["python"]),
        ("request_timeout", "max_seconds", 60),
        ("max_seconds", "max_seconds", 60),
        ("session", "session_id", "s"),
        ("session_id", "session_id", "s"),
        ("track", "track_id", "t"),
        ("track_id", "track_id", "t"),
    ],
)
def test_codeworlds_older_names_are_options(alias: str, name: str, value: Any) -> None:
    """Every alias of the earlier bridge still sets its option."""
    read = read_envelope({"items": [ITEM], alias: value}, CODEWORLD)

    assert read.job.options == {name: value}


def test_the_documented_lean_request_is_understood() -> None:
    """The batch of the earlier README (003, Bridge API), with its own names for everything."""
    document = {
        "messages": [{"role": "system", "content": "Analyse the batch"}],
        "lean4_requirements": [
            {"requirement_text": "0 + n = n", "strategies": "direct, computational"},
            {"requirement": "The sum of two even numbers is even"},
        ],
        "lean4_flags": ["--deterministic"],
        "max_seconds": 180,
    }

    job = read_envelope(document, CERTAINLY).job

    assert job.items == [
        {"requirement_text": "0 + n = n", "strategies": ["direct", "computational"]},
        {"requirement_text": "The sum of two even numbers is even"},
    ]
    assert job.options == {
        "flags": ["--deterministic"],
        "max_seconds": 180,
        "messages": document["messages"],
    }


@pytest.mark.parametrize("name", ["certainly", "lean4"])
def test_certainly_answers_to_both_its_names(name: str) -> None:
    """A client may call the engine by the older name."""
    document = {"items": [ITEM], "provider": {"name": name}}

    assert read_envelope(document, CERTAINLY).job.engine == "certainly"


def test_an_alias_wins_over_options_and_says_so() -> None:
    """Two different values for one option are never mixed up silently."""
    document = {"items": [ITEM], "max_seconds": 5, "options": {"max_seconds": 9}}

    read = read_envelope(document, CERTAINLY)

    assert read.max_seconds == 5
    assert read.warnings == ("max_seconds is given twice; the value from the top level counts",)


def test_uct_c_wins_over_its_older_name_and_says_so() -> None:
    """uct_c beats exploration_constant, as it always did; the answer mentions it."""
    args = {"uct_c": 1.0, "exploration_constant": 2.0}

    read = read_envelope({"items": [ITEM], "provider": {"args": args}}, CODEWORLD)

    assert read.job.options == {"uct_c": 1.0}
    assert read.warnings == ("uct_c wins over its older name exploration_constant",)


def test_the_seed_among_the_arguments_wins_and_says_so() -> None:
    """A strategy's seed beats the one at the top, as the earlier provider had it."""
    args = {"strategy_config": {"seed": 7}}

    read = read_envelope({"items": [ITEM], "seed": 1, "provider": {"args": args}}, CODEWORLD)

    assert read.job.seed == 7
    assert read.warnings == ("seed is given twice; the one among the arguments counts",)


def test_codeworld_without_items_runs_the_messages() -> None:
    """No items: one item, `run`, with the messages as its context."""
    messages = [{"role": "user", "content": "hello"}]

    job = read_envelope({"messages": messages}, CODEWORLD).job

    assert job.items == [{"task": "run", "context": {"messages": messages}}]


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([], "must be a JSON object"),
        ({"item": []}, "Did you mean 'items'"),
        ({"items": {}}, "'items' must be a list, but is an object"),
        ({"lean4_requirements": 3}, "'lean4_requirements' must be a list, but is 3"),
        ({}, "items/lean4_requirements must contain at least one item"),
        ({"items": [1], "lean4_requirements": [2]}, "given twice"),
        ({"items": [1], "seed": True}, "seed must be a whole number"),
        ({"items": [1], "seed": "x"}, "seed must be a whole number, but is the text 'x'"),
        ({"items": [1], "options": {"max_seconds": -1}}, "above 0, but is -1"),
        ({"items": [1], "max_seconds": "9"}, "above 0, but is the text '9'"),
        ({"items": [1], "session": 4}, "session_id must be a text, but is 4"),
        ({"items": [1], "provider": {"name": "codeworld"}}, "provider.name is 'codeworld'"),
        ({"items": [1], "provider": 3}, "'provider' must be an object with name and args"),
        ({"items": [1], "provider": {"args": []}}, "'provider.args' must be an object"),
        ({"items": [1], "options": "x"}, "'options' must be an object, but is the text 'x'"),
        ({"items": [1], "messages": "hi"}, "'messages' must be a list"),
        ({"items": [1], "async": 1}, "'async' must be true or false"),
    ],
)
def test_a_wrong_request_says_what_was_wanted_and_what_came(document: Any, says: str) -> None:
    """The message names the field, the wanted form and the value that came."""
    with pytest.raises(UsageError) as caught:
        read_envelope(document, CERTAINLY)

    assert says in caught.value.message


def test_the_answer_keeps_the_keys_that_clients_read() -> None:
    """Every key of the earlier CodeWorld answer is there, and duration and time are real."""
    read = read_envelope(
        {"items": [{"task_id": "a", "task": "t"}, ITEM], "codeworld_metrics": ["speed"]}, CODEWORLD
    )
    result = JobResult(
        summary={"items": 2},
        results=[{"item_id": "a"}, {"item_id": "item-2"}],
        findings=[],
        environment={
            "signals": {"session_id": "s", "plateau": False},
            "run_manifest": {"mcts_stats": {"rollouts": 3}},
        },
    )

    body = write_result(result, read, CODEWORLD, run_id="r", ts=12.5, duration_ms=3.0)

    assert set(body) >= {
        "summary", "statistics", "results", "duration_ms", "stdout", "stderr", "run_manifest",
        "signals",
    }  # fmt: skip
    assert body["statistics"] == {
        "iterations": None, "metrics": ["speed"], "allowed_languages": None
    }  # fmt: skip
    assert body["run_manifest"]["item_ids"] == ["a", "item-2"]
    assert body["run_manifest"]["task_ids"] == ["a", "item-2"]
    assert body["run_manifest"]["ts"] == 12.5
    assert body["run_manifest"]["mcts_stats"] == {"rollouts": 3}
    assert body["signals"] == {"session_id": "s", "plateau": False}


def test_a_proof_answer_has_its_older_names_too() -> None:
    """`proof_results` repeats the results; the statistics are the summary's numbers."""
    read = read_envelope({"items": [{"requirement_text": "x"}]}, CERTAINLY)
    summary = {"items": 1, "proved": 0, "failed": 1, "unproved": 0}
    result = JobResult(summary=summary, results=[{"item_id": "item-1"}], findings=[])

    body = write_result(result, read, CERTAINLY, run_id="r", ts=1.0, duration_ms=3.0)

    assert body["proof_results"] == body["results"]
    assert body["statistics"] == {"successful_proofs": 0, "failed_proofs": 1, "unproved": 0}


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([], "answers with an object"),
        ({"results": []}, "'summary' in a bridge's answer is an object, but it is missing"),
        ({"summary": {}}, "'results' in a bridge's answer is a list of objects"),
        ({"summary": {}, "results": [1]}, "'results' in a bridge's answer is a list of objects"),
        ({"summary": None, "results": []}, "but it is null"),
        ({"summary": {}, "results": [], "findings": [{"id": 1}]}, "A finding has an id"),
    ],
)
def test_an_answer_that_is_no_bridges_is_named(document: Any, says: str) -> None:
    """An answer of another server is never taken for a result."""
    with pytest.raises(MalformedReplyError) as caught:
        read_result(document)

    assert says in caught.value.message
