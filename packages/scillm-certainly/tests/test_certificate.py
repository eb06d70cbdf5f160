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
from scillm.runs.canonical import digest
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


def sealed(**changes: Json) -> dict[str, Json]:
    """A forger's certificate: changed, with hashes that fit."""
    body = {name: value for name, value in {**TOLD, **changes}.items() if name != "digest"}
    return {**body, "digest": digest(body)}


THEOREM = TOLD["theorems"][0]
WITHOUT_HASH = {
    name: value for name, value in TOLD.items() if name not in ("code_sha256", "digest")
}
REFUSED: list[tuple[dict[str, Json], str]] = [
    (sealed(status="proved_unreplayed"), "certifies no proof"),
    (sealed(code="theorem t : 1 = 2 := sorry"), "was changed"),
    (sealed(code_sha256="0" * 64), "was changed"),
    ({**WITHOUT_HASH, "digest": digest(WITHOUT_HASH)}, "code_sha256 is missing"),
    (sealed(theorems=[{**THEOREM, "sha256": "0" * 64}]), "was changed"),
    (sealed(theorems=[3]), "theorems is missing or odd"),
    (sealed(theorems=[{"name": "t"}]), "theorems is missing or odd"),
    (sealed(axioms=[3]), "axioms is missing or odd"),
    (sealed(lean={}), "lean is missing or odd"),
    (sealed(reference=3), "reference is missing or odd"),
    (sealed(policy={}), "policy lacks axioms"),
    (sealed(policy={"axioms": [], "heartbeats": -1, "time_s": 5}), "heartbeats must be"),
    (sealed(policy={"axioms": [], "heartbeats": "x", "time_s": 5}), "heartbeats must be"),
    (sealed(policy={"axioms": ["a b"], "heartbeats": 5, "time_s": 5}), "no name"),
]
DIFFERENT: list[tuple[str, Json]] = [
    ("replay", "failed"),
    ("grade", "full"),
    ("caveats", ["none at all"]),
    ("axioms", ["propext"]),
    ("theorems", []),
    ("theorems", [{**THEOREM, "name": "other"}]),
    ("theorems", [{**THEOREM, "statement": "False", "sha256": certificate.sha256("False")}]),
    ("theorems", [{**THEOREM, "type_hash": "1"}]),
    ("theorems", [{**THEOREM, "axioms": ["propext"]}]),
]
ASKED_AGAIN = {"code", "reference", "policy"}
"""Lean gets these as they stand; changed, they are another question."""
WRITERS_WORD = {"item_id", "checked", "us", "wall_s"}
"""Nobody can check these again; the guide says so."""


@pytest.mark.parametrize(("document", "says"), REFUSED)
def test_a_forged_certificate_that_contradicts_itself_is_refused(
    document: dict[str, Json], says: str
) -> None:
    """A digest that fits does not make a certificate: what it says must fit together too."""
    with pytest.raises(UsageError, match=says):
        certificate.read(json.dumps(document), where="x")


@pytest.mark.parametrize(("name", "value"), DIFFERENT)
def test_a_forged_certificate_is_not_confirmed(name: str, value: Json) -> None:
    """Whatever Lean can say again is compared, and the difference named."""
    told = certificate.read(json.dumps(sealed(**{name: value})), where="x")
    (found,) = certificate.differences(told, VERDICT)

    assert found.startswith(name)


@pytest.mark.parametrize("name", ["version", "commit", "backend", "package", "driver_sha256"])
def test_another_lean_is_noted(name: str) -> None:
    """A certificate in another Lean's name is confirmed by this one, and that is told."""
    told = certificate.read(json.dumps(sealed(lean={**TOLD["lean"], name: "other"})), where="x")

    assert certificate.notes(told, VERDICT) == [f"{name} was other and is {TOLD['lean'][name]}"]


def test_a_lean_that_sees_more_axioms_confirms() -> None:
    """The embedded Lean does not see a library theorem's axioms; one that does names more."""
    native = Lean(backend="native", version="4.28.0", commit="n")
    seen = evolve(VERDICT, lean=native, axioms=["propext"], axioms_complete=True)
    claims_all = certificate.read(json.dumps(sealed(axioms_complete=True)), where="x")

    assert certificate.differences(TOLD, seen) == []
    assert "axioms was [] and is ['propext']" in certificate.notes(TOLD, seen)
    assert certificate.differences(claims_all, seen) == ["axioms: [] then, ['propext'] now"]
    assert certificate.differences(claims_all, VERDICT)[-1].startswith("axioms_complete")


def test_no_part_of_a_certificate_goes_unchecked() -> None:
    """Each part is refused, compared or asked again when changed, or known as a mere word."""
    refused = {name for row, _ in REFUSED for name in TOLD if row.get(name) != TOLD[name]}
    compared = {name for name, _ in DIFFERENT}
    elsewhere = {"schema", "lean", "axioms_complete"}

    assert refused | compared | ASKED_AGAIN | WRITERS_WORD | elsewhere == set(TOLD)


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
    words = ["check", "--text", CODE, "--certificates", str(tmp_path / "d"), "--json"]
    document = CliRunner().invoke(command, words, env=environment).stdout
    (file,) = (tmp_path / "c").iterdir()
    confirmed = run("recheck", str(file))
    forged = {**TOLD, "code": "theorem t (n : Nat) : 0 + n = n := sorry"}
    forged["code_sha256"] = certificate.sha256(forged["code"])
    body = {name: value for name, value in forged.items() if name != "digest"}
    false = tmp_path / "false.json"
    false.write_text(json.dumps({**body, "digest": digest(body)}), encoding="utf-8")
    refused = run("recheck", str(false), "--json")
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps({**TOLD, "grade": "full"}), encoding="utf-8")

    assert written[0] == 0
    assert json.loads(document)["results"][0]["certificate"]["code"] == CODE
    assert (confirmed[0], "confirmed" in confirmed[1]) == (0, True)
    assert refused[0] == 1
    assert "incomplete" in json.loads(refused[1])[0]["differences"][0]
    assert run("recheck", str(changed))[0] == 2


def test_one_bad_certificate_leaves_the_others_alone(
    tmp_path: Path, lean_values: Mapping[str, Json]
) -> None:
    """Every other certificate is checked; the bad one is named, and the exit code is 2."""
    environment = {
        "SCILLM_CERTAINLY_HOME": str(lean_values["certainly_home"]),
        "SCILLM_CERTAINLY_BACKEND": "wasm",
        "SCILLM_CERTAINLY_WORKERS": "1",
    }
    (tmp_path / "none.json").write_text("{}", encoding="utf-8")
    (tmp_path / "false.json").write_text(json.dumps(sealed(replay="none")), encoding="utf-8")
    words = [
        "recheck",
        *(str(tmp_path / name) for name in ("none.json", "gone.json", "false.json")),
    ]
    done = CliRunner().invoke(command, [*words, "--json"], env=environment)
    rows = json.loads(done.stdout)

    assert done.exit_code == 2
    assert [row["confirmed"] for row in rows] == [False] * 3
    assert "no certificate" in rows[0]["differences"][0]
    assert "cannot be read" in rows[1]["differences"][0]
    assert rows[2]["differences"] == ["replay: none then, ok now"]
