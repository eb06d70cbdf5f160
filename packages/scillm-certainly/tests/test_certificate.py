"""Certificates: only for what is proved, whole or refused, and confirmed by Lean again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from attrs import evolve
from click.testing import CliRunner
from scillm import portal
from scillm.errors import UsageError
from scillm.records import ChatRequest, Endpoint
from scillm.testing import host_for
from scillm_certainly import certificate
from scillm_certainly.command import command
from scillm_certainly.engine import CertainlyEngine
from scillm_certainly.provider import Certainly
from scillm_certainly.records import CheckRequest, Declaration, Lean, ProofVerdict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from scillm.records import Json
    from scillm_certainly.pool.resident import Resident

CODE = "theorem t (n : Nat) : 0 + n = n := by simp"
REQUEST = CheckRequest(id="a", code=CODE)
VERDICT = ProofVerdict(
    id="a",
    status="proved",
    theorems=[Declaration(name="t", kind="theorem", statement="∀ (n : Nat), 0 + n = n")],
    replay="ok",
    lean=Lean(backend="wasm", version="4.28.0", commit="c", driver="d"),
)
TOLD = certificate.certificate_of(REQUEST, VERDICT, now="2026-01-01T00:00:00+00:00")


@pytest.mark.parametrize("status", ["proved_unreplayed", "incomplete", "rejected", "unsound"])
def test_nothing_else_gets_a_certificate(status: str) -> None:
    """A certificate exists for `proved` and for no other verdict."""
    with pytest.raises(UsageError, match=status):
        certificate.certificate_of(REQUEST, evolve(VERDICT, status=status), now="")


def test_a_certificate_is_read_as_it_was_written() -> None:
    """Reading gives back what is needed to check again, and asks Lean afresh."""
    told = certificate.read(json.dumps(TOLD), where="x")
    asked = certificate.request_of(told)

    assert told == TOLD
    assert (asked.code, asked.policy, asked.fresh) == (
        CODE,
        evolve(REQUEST.policy, axioms=tuple(sorted(REQUEST.policy.axioms))),
        True,
    )
    assert certificate.differences(told, VERDICT) == []
    assert certificate.notes(told, VERDICT) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no certificate"),
        (json.dumps({**TOLD, "schema": "other/1"}), "no certificate"),
        (json.dumps({"schema": TOLD["schema"]}), "no whole certificate"),
        (json.dumps({**TOLD, "code": "theorem t : 1 = 2 := sorry"}), "was changed"),
        (json.dumps({**TOLD, "axioms": ["propext"]}), "was changed"),
    ],
)
def test_a_damaged_certificate_is_refused(text: str, says: str) -> None:
    """Half a certificate, or one that was edited, is not checked at all."""
    with pytest.raises(UsageError, match=says):
        certificate.read(text, where="x")


def test_differences_are_named() -> None:
    """Another verdict, statement or axiom is a difference; another Lean is a note."""
    other = evolve(VERDICT, theorems=[Declaration(name="t", kind="theorem", statement="True")])
    newer = evolve(VERDICT, lean=Lean(backend="native", version="4.35.0", commit="n"))

    assert "rejected" in certificate.differences(TOLD, evolve(VERDICT, status="rejected"))[0]
    assert "theorems" in certificate.differences(TOLD, other)[0]
    assert "axioms" in certificate.differences(TOLD, evolve(VERDICT, axioms=["propext"]))[0]
    assert certificate.differences(TOLD, newer) == []
    assert any("4.35.0" in row for row in certificate.notes(TOLD, newer))


def test_every_proof_carries_its_certificate(lean_values: Mapping[str, Json]) -> None:
    """Results and the run's manifest hold the certificates of what was proved, and only those."""
    made = Certainly(Endpoint(provider="certainly"), host_for(settings=lean_values))
    items = [{"id": "a", "code": CODE}, {"id": "b", "code": "theorem t : 1 = 2 := rfl"}]
    request = ChatRequest(model="certainly", params={"items": items}, timeout_s=120)
    told = portal.call(made.complete, request).additional_kwargs["certainly"]
    (kept,) = told["run_manifest"]["certificates"]

    assert [bool(row["certificate"]) for row in told["results"]] == [True, False]
    assert kept["item_id"] == "a"
    assert kept["theorems"][0]["statement"] == "∀ (n : Nat), 0 + n = n"
    assert kept["lean"]["package"].startswith("sha512-")
    assert len(kept["lean"]["driver_sha256"]) == 64
    assert certificate.read(json.dumps(kept), where="x") == kept


def test_lean_is_asked_again_although_it_answered_before(lean: Resident) -> None:
    """Rechecking never reads an answer from memory."""
    (verdict,) = portal.call(CertainlyEngine(lean).check_all, [REQUEST])
    again = portal.call(lean.check, certificate.request_of(verdict.certificate))

    assert again.proved
    assert not again.cached


def test_recheck_confirms_and_refuses(tmp_path: Path, lean_values: Mapping[str, Json]) -> None:
    """`check --certificates` writes them; `recheck` exits with 0 for a true one, 1 for a false."""
    environment = {
        "SCILLM_CERTAINLY_HOME": str(lean_values["certainly_home"]),
        "SCILLM_CERTAINLY_BACKEND": "wasm",
        "SCILLM_CERTAINLY_WORKERS": "1",
    }

    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(command, list(words), env=environment)
        return done.exit_code, done.output

    written = run("check", "--text", CODE, "--certificates", str(tmp_path / "c"))
    (file,) = (tmp_path / "c").iterdir()
    confirmed = run("recheck", str(file))
    forged = {**TOLD, "code": "theorem t (n : Nat) : 0 + n = n := sorry"}
    forged["code_sha256"] = certificate.sha256(forged["code"])
    body = {name: value for name, value in forged.items() if name != "digest"}
    from scillm.runs.canonical import digest

    false = tmp_path / "false.json"
    false.write_text(json.dumps({**body, "digest": digest(body)}), encoding="utf-8")
    refused = run("recheck", str(false), "--json")
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps({**TOLD, "grade": "full"}), encoding="utf-8")

    assert written[0] == 0
    assert (confirmed[0], "confirmed" in confirmed[1]) == (0, True)
    assert refused[0] == 1
    assert "incomplete" in json.loads(refused[1])[0]["differences"][0]
    assert run("recheck", str(changed))[0] == 2
