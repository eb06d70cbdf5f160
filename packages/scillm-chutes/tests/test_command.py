"""`scillm chutes …` and the helpers of `scillm.extras`, against the fake."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import scillm.extras
import scillm_chutes
from click.testing import CliRunner
from scillm.errors import MalformedReplyError, RateLimitError, SettingsError
from scillm_chutes.commands import command
from scillm_chutes.commands.hosting import presence
from scillm_chutes.peers import peers, size_b
from scillm_chutes.records import Ranked

if TYPE_CHECKING:
    from click.testing import Result
    from scillm_chutes.fake import FakeChutes

HELLO = [{"role": "user", "content": "Hello"}]
NAMES = (
    "auto_router_from_env",
    "infer_with_fallback",
    "find_best_chutes_model",
    "warm_chutes_caches",
    "preflight_models",
    "chutes_chat_json",
    "strict_json_completion",
    "hedged_json_completion",
)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def as_json(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json").output)


@pytest.mark.parametrize("name", NAMES)
def test_the_helpers_have_their_names_in_both_places(name: str) -> None:
    """Old imports go on working, from `scillm.extras` and from `scillm_chutes`."""
    assert getattr(scillm.extras, name) is getattr(scillm_chutes, name)
    assert name in dir(scillm.extras)


def test_models_and_ranks_are_explained(fake: FakeChutes) -> None:
    """The table has what a row does not say as `?`; the ranking shows every term and reason."""
    ranked = as_json("rank", "--kind", "tools")["ranked"]
    reasons = {row["id"]: row["left_out"] for row in ranked}
    first = ranked[0]

    assert "dogwood/Dogwood-K2-Instruct-0905  ?" in run("models").output
    assert first["score"] == pytest.approx(sum(first["terms"].values()))
    assert reasons["elm/Elm-8B"] == "cannot do tools"


def test_resolve_answers_or_refuses(fake: FakeChutes) -> None:
    """A clear name gives the id and the rule; an unclear one exits with 1 and the candidates."""
    unclear = run("resolve", "alder")

    assert run("resolve", "alder 3 32b").output == "acme/Alder-3-32B (by separators)\n"
    assert unclear.exit_code == 1
    assert "acme/Alder-3-32B-Base" in unclear.output


def test_best_and_peers_are_ready_to_use(fake: FakeChutes) -> None:
    """`peers` prints a .env and a Router that runs; no key is printed anywhere."""
    output = run("peers", "--primary", "elm/Elm-8B").output
    lines, _, code = output.partition("\n\n")
    scope: dict[str, Any] = {"messages": HELLO}
    exec(compile(code, "peers", "exec"), scope)

    assert lines.splitlines()[0] == "CHUTES_TEXT_MODEL=elm/Elm-8B"
    assert scope["answer"].model == "elm/Elm-8B"
    assert run("best").output.strip() in fake.models
    assert fake.key not in output + run("best", "--json").output


def test_the_doctor_tells_ok_failed_and_skipped_apart(
    fake: FakeChutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong key fails although the model list loads; then the chats are skipped, not passed."""
    well = run("doctor")
    spared = as_json("doctor", "--no-chat")
    billed = fake.account.billed
    monkeypatch.setenv("CHUTES_API_KEY", "cpk_wrong")
    ill = run("doctor", "--json")
    results = {row["name"]: row["result"] for row in json.loads(ill.output)["checks"]}

    assert well.exit_code == 0
    assert "balance $25.0" in well.output
    assert [row["result"] for row in spared["checks"][-2:]] == ["skipped", "skipped"]
    assert billed == 2
    assert ill.exit_code == 1
    assert results == {
        "key": "FAILED",
        "catalog": "ok",
        "utilization": "ok",
        "JSON chat": "skipped",
        "stream": "skipped",
    }


def test_warmup_wakes_a_model_and_ready_tells(fake: FakeChutes) -> None:
    """`ready` says cold with exit code 1, `warmup` waits, then `ready` says hot."""
    fake.models["gum/Gum-2-7B"].warms_in_s = 0.05
    before = run("ready", "gum/Gum-2-7B")
    warm = run("warmup", "gum 2 7b")
    after = run("ready", "gum/Gum-2-7B")

    assert (before.exit_code, warm.exit_code, after.exit_code) == (1, 0, 0)
    assert "hot" in warm.output


def test_warmup_waits_no_longer_than_it_was_told(fake: FakeChutes) -> None:
    """`--timeout` bounds the whole wait, also while the service goes on saying cold."""
    began = time.monotonic()
    slow = run("warmup", "gum/Gum-2-7B", "--timeout", "0.3")

    assert slow.exit_code == 1
    assert "gum/Gum-2-7B was not hot within 0.3 s" in slow.output
    assert time.monotonic() - began < 10.0


def test_models_of_vectors_can_be_warmed_up(fake: FakeChutes) -> None:
    """What the refusal of an idle model tells to type works for them as for others."""
    model = fake.models["juniper/Juniper-Embed-0.6B"]
    model.state, model.instances, model.warms_in_s = "cold", 0, 0.01
    warm = run("warmup", model.id)

    assert warm.exit_code == 0, warm.output
    assert "hot: " in warm.output


def test_a_row_of_another_shape_is_told(fake: FakeChutes) -> None:
    """`ready` does not end in a traceback when the service answers something else."""
    assert presence({"instances": None}, "x") == (0, False)
    assert presence({"instances": ["?", {"active": True}]}, "x") == (1, True)
    with pytest.raises(MalformedReplyError, match="The row of x should be an object"):
        presence([], "x")


def test_a_new_pin_counts_for_the_next_call(
    fake: FakeChutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed environment makes a new router; an unchanged one keeps the old."""
    scillm_chutes.infer_with_fallback(HELLO)
    monkeypatch.setenv("CHUTES_TEXT_MODEL", "elm/Elm-8B")
    _, meta = scillm_chutes.infer_with_fallback(HELLO)
    monkeypatch.delenv("CHUTES_API_KEY")
    with pytest.raises(SettingsError, match="No key for Chutes"):
        scillm_chutes.infer_with_fallback(HELLO)

    assert meta["served_model"] == "elm/Elm-8B"


def test_usage_shows_quota_and_resets(fake: FakeChutes) -> None:
    """Balance, quotas and the reset of the four-hour window."""
    found = as_json("usage")

    assert found[0]["user"]["balance"] == 25.0
    assert "four_hour resets" in run("usage").output
    assert fake.key not in str(found)


def test_deploying_needs_the_chutes_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without it a sentence says where it comes from; with it the commands go to it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    absent = run("deploy", "mine:chute")
    program = tmp_path / "chutes"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    program.chmod(0o755)
    done = run("deploy", "mine:chute", "--accept-fee")

    assert "pip install chutes" in absent.output
    assert done.exit_code == 0
    assert (tmp_path / "calls").read_text().splitlines() == [
        "build mine:chute --wait",
        "deploy mine:chute --accept-fee",
    ]
    assert run("deploy", "--", "--help:x").exit_code == 2


def test_the_fake_serves_until_ctrl_c() -> None:
    """Its first two lines are a .env; Ctrl-C ends it with what it saw."""
    process = subprocess.Popen(
        [sys.executable, "-m", "scillm", "chutes", "fake", "--quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        first, second = process.stdout.readline(), process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, noted = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()

    assert first.startswith("CHUTES_API_BASE=http://127.0.0.1:")
    assert second.startswith("CHUTES_API_KEY=cpk_")
    assert "0 requests" in noted


def test_infer_with_fallback_attributes_the_answer(fake: FakeChutes) -> None:
    """The second value names route, served model and every attempt with its time and status."""
    best = scillm_chutes.find_best_chutes_model(require_json=True)
    assert best is not None
    fake.models[best["litellm_params"]["model"]].concurrency = 0
    answer, meta = scillm_chutes.infer_with_fallback(HELLO, require_json=True)

    assert json.loads(answer.text) == {"ok": True}
    assert meta["served_model"] == fake.served[-1]
    assert [a["outcome"] for a in meta["attempts"]] == ["ModelFullError", "ok"]
    assert meta["attempts"][0]["status_code"] == 429


def test_the_threshold_is_for_choosing(fake: FakeChutes) -> None:
    """Above it a model is passed over; when all are above, the least used one is named."""
    for model in fake.models.values():
        model.used = 0.99
    fake.models["elm/Elm-8B"].used = 0.9
    best = scillm_chutes.find_best_chutes_model(util_threshold=0.85)
    assert best is not None

    assert best["litellm_params"]["model"] in ("elm/Elm-8B", "hazel/Hazel-M2.1")
    assert "api_key" not in best["litellm_params"]


def test_a_restart_needs_no_network(fake: FakeChutes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of an earlier process serves when the service cannot be reached."""
    ids = scillm_chutes.preflight_models()
    stored = list(Path(os.environ["SCILLM_CHUTES_CACHE_DIR"]).glob("models-*.json"))
    fake.site.catalog_mode = "error"
    code = "import scillm_chutes; print(len(scillm_chutes.preflight_models()))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    assert int(done.stdout) == len(ids) == 9
    assert fake.key not in stored[0].read_text()


def test_warming_says_what_could_be_had(fake: FakeChutes) -> None:
    """Two answers: the catalogs, the feeds."""
    good = scillm_chutes.warm_chutes_caches()
    fake.site.feed_mode = "html"

    assert good == (True, True)
    assert scillm_chutes.warm_chutes_caches() == (True, False)


def test_a_tenacious_call_waits_for_its_one_model(
    fake: FakeChutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on after a full model, never asks another, and stops when the wall time ends."""
    monkeypatch.setenv("CHUTES_TEXT_MODEL", "elm/Elm-8B")
    monkeypatch.setenv("SCILLM_TENACIOUS", "1")
    model = fake.models["elm/Elm-8B"]
    model.concurrency = 0
    with pytest.raises(RateLimitError):
        scillm_chutes.chutes_chat_json(HELLO, max_wall_time_s=1.0, backoff_base=0.2)
    model.concurrency = 8
    answer = scillm_chutes.chutes_chat_json(HELLO, max_wall_time_s=20.0)

    assert json.loads(answer.text) == {"ok": True}
    assert answer.scillm_meta["tenacious"] is True
    assert {seen.body["model"] for seen in fake.chats} == {"elm/Elm-8B"}


def test_json_helpers_take_the_key_in_every_old_form(fake: FakeChutes) -> None:
    """Bearer, x-api-key or an argument: what leaves is one call with a bearer token."""
    ask = partial(
        scillm_chutes.strict_json_completion,
        model="elm/Elm-8B",
        messages=HELLO,
        api_base=fake.api_base,
    )
    ask(extra_headers={"Authorization": f"Bearer {fake.key}"})
    ask(extra_headers={"x-api-key": fake.key})
    ask(api_key=fake.key)
    hedged = partial(
        scillm_chutes.hedged_json_completion,
        model="elm/Elm-8B",
        messages=HELLO,
        api_base=fake.api_base,
        key=fake.key,
    )
    answer = anyio.run(hedged)

    assert json.loads(answer.text) == {"ok": True}
    assert len(fake.chats) == 4
    assert fake.wrong == []


@pytest.mark.parametrize(
    ("name", "size"),
    [("a/Qwen3-235B-A22B", 235.0), ("x-78B", 78.0), ("foo-1T", 1000.0), ("m-8x7B", 56.0)],
)
def test_sizes_are_read_from_names(name: str, size: float) -> None:
    """Decimals, experts and trillions count as they should."""
    assert size_b(name) == size
    assert size_b("") is None
    assert size_b("y-7.5B") == 7.5


def test_peers_are_the_nearest_in_size_or_else_the_best() -> None:
    """A primary whose name states no size has the best ranked as alternates; base models none."""
    names = ("a/One-70B", "b/Two-8B-Base", "c/Three-8B", "d/Four")
    ranked = [Ranked(id=name) for name in names] + [Ranked(id="e/Five-7B", left_out="cold")]

    assert peers(ranked, "x/Six-9B", most=3) == ["c/Three-8B", "a/One-70B", "d/Four"]
    assert peers(ranked, "x/Seven", most=2) == ["a/One-70B", "c/Three-8B"]
    assert peers(ranked, None, most=1) == ["a/One-70B"]


@pytest.mark.parametrize("arguments", [["best"], ["doctor"], ["usage"], ["warmup", "x"]])
def test_without_a_key_a_command_says_one_sentence(arguments: list[str]) -> None:
    """Exit code 2, and nothing but what to set."""
    result = run(*arguments)

    assert result.exit_code == 2
    assert result.output.startswith("Error: No key for Chutes is set: put one into CHUTES_API_KEY")
    assert len(result.output.splitlines()) == 1


def test_the_table_of_ranks_leaves_out_what_is_zero_everywhere(fake: FakeChutes) -> None:
    """Eighty columns hold it; `--json` has every term."""
    head = run("rank").output.splitlines()[0].split()
    first = as_json("rank")["ranked"][0]

    assert head == ["model", "score", "room", "refused_by_feed", "left", "out", "because"]
    assert set(first["terms"]) > {"growing", "refused_to_us", "resting"}
    assert str(first["terms"]["refused_to_us"]) == "0.0"


def test_a_catalog_that_was_never_there_is_not_said_to_serve(
    fake: FakeChutes, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning says whether something is known."""
    fake.site.catalog_mode = "error"
    assert run("models").exit_code == 1
    fake.site.catalog_mode = ""
    assert run("models").exit_code == 0

    assert "cannot be fetched, none is known" in caplog.text
    assert "the last known serves" not in caplog.text
