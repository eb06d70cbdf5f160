"""Proof maps: layers and colours tell the truth, and the page needs nothing else."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from scillm import portal
from scillm_certainly.command import command
from scillm_certainly.map.graph import direct_of, graph_of, layers_of
from scillm_certainly.map.page import page_of
from scillm_certainly.records import CheckRequest, Declaration, ProofVerdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from scillm.records import Json
    from scillm_certainly.pool.resident import Resident

CODE = """inductive Tree
  | leaf
  | node (l r : Tree)
def size : Tree → Nat
  | .leaf => 0
  | .node l r => size l + size r + 1
theorem zero (n : Nat) : n + 0 = n := rfl
theorem same (t : Tree) : size t + 0 = size t := zero _
theorem gap : 1 = 2 := by sorry
theorem wrong : 1 = 3 := by omega
theorem both : 1 = 2 ∧ True := ⟨gap, trivial⟩
"""
GRAPHS = st.integers(1, 8).flatmap(
    lambda n: st.fixed_dictionaries(
        {
            str(i): st.lists(st.sampled_from([str(j) for j in range(i)] or ["0"]), unique=True)
            if i
            else st.just([])
            for i in range(n)
        }
    )
)


def below(uses: Mapping[str, Sequence[str]], name: str) -> set[str]:
    found: set[str] = set()
    todo = list(uses[name])
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo += uses[one]
    return found


@given(GRAPHS)
def test_whatever_is_used_stands_in_a_lower_layer(uses: Mapping[str, list[str]]) -> None:
    """A declaration's layer is one more than the highest of those it uses."""
    layers = layers_of(uses)

    assert all(
        layers[name] == 1 + max((layers[used] for used in rows), default=-1)
        for name, rows in uses.items()
    )


@given(GRAPHS)
def test_drawn_lines_lead_wherever_uses_do(uses: Mapping[str, list[str]]) -> None:
    """What is left out of the drawing follows from what is drawn, and nothing is added."""
    drawn = direct_of(uses)

    assert all(below(drawn, name) == below(uses, name) for name in uses)
    assert all(set(drawn[name]) <= set(uses[name]) for name in uses)


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.sampled_from("abc"), unique=True)))
def test_a_cycle_ends(uses: Mapping[str, list[str]]) -> None:
    """Mutual declarations use each other; they still get a place each."""
    whole = {name: [used for used in rows if used in uses] for name, rows in uses.items()}

    assert set(layers_of(whole)) == set(whole)
    assert set(direct_of(whole)) == set(whole)


def test_states_are_those_of_the_declarations(lean: Resident) -> None:
    """Each declaration has its own state; in a file that is not proved none is called proved."""
    graph = graph_of(portal.call(lean.check, CheckRequest(id="f.lean", code=CODE)))
    states = {node.name: node.state for node in graph.nodes}
    uses = {node.name: node.uses for node in graph.nodes}

    assert states == {
        "Tree": "accepted",
        "size": "accepted",
        "zero": "accepted",
        "same": "accepted",
        "gap": "incomplete",
        "wrong": "rejected",
        "both": "gap below",
    }
    assert uses["same"] == ("Tree", "size", "zero")
    assert uses["size"] == ("Tree",)
    assert uses["both"] == ("gap",)


def test_proved_axioms_and_unsound(lean: Resident) -> None:
    """Theorems of a proved file are proved; an axiom is assumed, and what rests on it unsound."""
    good = graph_of(portal.call(lean.check, CheckRequest(code="theorem t : 1 = 1 := rfl")))
    bad = graph_of(
        portal.call(lean.check, CheckRequest(code="axiom a : 1 = 2\ntheorem t : 1 = 2 := a"))
    )

    assert [node.state for node in good.nodes] == ["proved"]
    assert {node.name: node.state for node in bad.nodes} == {"a": "axiom", "t": "unsound"}


def test_a_refused_declaration_is_shown() -> None:
    """What the kernel refuses the second time is on the map, although it is no declaration."""
    verdict = ProofVerdict(id="f", status="unsound", culprits=["boom"], reason="refused")
    (node,) = graph_of(verdict).nodes

    assert (node.name, node.state, node.kind) == ("boom", "unsound", "refused")


class Seen(HTMLParser):
    """Collects what a page would load, and its tags' balance."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.loaded += [str(named[key]) for key in ("src", "href") if key in named]
        self.texts.append(tag)


def test_names_and_statements_are_only_text() -> None:
    """A name or statement made of markup stays text, and the page loads nothing."""
    evil = '<script>alert("x")</script>&"\''
    row = Declaration(name=evil, kind="theorem", statement=evil, axioms=[evil])
    verdict = ProofVerdict(id=evil, status="rejected", reason=evil, declarations=[row])
    page = page_of([graph_of(verdict)])
    seen = Seen()
    seen.feed(page)

    assert seen.loaded == []
    assert seen.texts.count("script") == 1
    assert "alert(" in page
    assert not re.search(r"https?://|url\(|@import", page)


def test_the_command_writes_a_page(tmp_path: Path, lean_values: Mapping[str, Json]) -> None:
    """`map` draws every file and tells their verdicts; a file that is not there is exit 2."""
    environment = {
        "SCILLM_CERTAINLY_HOME": str(lean_values["certainly_home"]),
        "SCILLM_CERTAINLY_BACKEND": "wasm",
        "SCILLM_CERTAINLY_WORKERS": "1",
    }
    file, page = tmp_path / "f.lean", tmp_path / "g.html"
    file.write_text(CODE, encoding="utf-8")
    done = CliRunner().invoke(command, ["map", str(file), "-o", str(page)], env=environment)
    missing = CliRunner().invoke(command, ["map", "none.lean", "-o", str(page)], env=environment)
    text = page.read_text(encoding="utf-8")

    assert done.exit_code == 0
    assert "7 declarations drawn" in done.output
    assert "∀ (t : Tree), size t + 0 = size t" in text
    assert "prefers-color-scheme:dark" in text
    assert missing.exit_code == 2
