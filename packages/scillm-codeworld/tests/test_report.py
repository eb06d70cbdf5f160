"""The HTML report: everything told, everything escaped, nothing loaded, no script."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import anyio
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import StoredRunError
from scillm.records import Job
from scillm.runs import recorded
from scillm.runs.store import RunStore
from scillm_codeworld.command import command
from scillm_codeworld.engine.jobs import CodeWorldEngine
from scillm_codeworld.engine.making import Made
from scillm_codeworld.records import Variant
from scillm_codeworld.report.figures import curve, timings
from scillm_codeworld.report.markup import escaped, tag
from scillm_codeworld.report.page import page
from scillm_codeworld.report.story import ends_of, story_of, tree_of

EVIL = "</script><script>document.title='PWNED'</script><img src=x onerror=alert(1)>"
RIGHT = "def solve(x):\n    return x * x\n"
DOUBLE = f"def solve(x):\n    # {EVIL}\n    return x + x\n"
PROGRAMS = {
    f"double {EVIL.replace('/', '')}": DOUBLE,
    "crash": "import sys\ndef solve(x):\n    print('seen', file=sys.stderr)\n    return 1 / 0\n",
    "loud": f"def solve(x):\n    raise ValueError({EVIL!r})\n",
    "syntax": "def solve(x)",
}
CASES = [2, 3, 4]


async def make(item, trial, known):
    """One better program, from the first one tried."""
    variant = Variant(
        id=f"made-{trial.number}", code=RIGHT, origin={"kind": "generated", "parent": trial.parent}
    )
    return Made(variant=variant, cost={"tokens": 5.0}, detail={"prompt": "better, please"})


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A store with a search that grew, and its manifest."""
    store = RunStore(tmp_path_factory.mktemp("runs"))
    context = {"code_variants": PROGRAMS, "inputs": CASES, "expected": [x * x for x in CASES],
               "report_inputs": [9], "report_expected": [81]}  # fmt: skip
    items = [{"id": f"square {EVIL.replace('/', '')}", "task": f"Square. {EVIL}",
              "context": context}, {"task": "bad"}]  # fmt: skip
    options = {"strategy": "mcts", "budget": {"rollouts": 12}, "repeats": 2, "width": 1}
    job = Job(engine="codeworld", items=items, options=options, seed=2)
    manifest = anyio.run(recorded.keep_job, CodeWorldEngine(make=make), job, store)
    return store, manifest


@pytest.fixture(scope="module")
def html(kept):
    store, manifest = kept
    return page(story_of(manifest, store.folder(manifest.run_id)))


class Reader(HTMLParser):
    """Collects elements, attributes and texts, as a browser's parser sees them."""

    def __init__(self):
        super().__init__()
        self.tags = set()
        self.attributes = []
        self.texts = []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.texts.append(data)


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader


ELEMENTS = {
    "a", "body", "circle", "dd", "details", "div", "dl", "dt", "g", "h1", "h2", "h3", "head",
    "html", "i", "li", "line", "main", "meta", "ol", "p", "path", "polyline", "pre", "rect",
    "section", "span", "style", "summary", "svg", "table", "tbody", "td", "text", "th", "thead",
    "title", "tr", "tspan",
}  # fmt: skip
"""What a report is made of; nothing in it runs, loads or sends."""


def test_code_that_ends_a_script_stays_text(html):
    """Names, tasks, programs and error messages are shown as they are, and are never markup."""
    found = read(html)

    assert found.tags <= ELEMENTS
    names = {name for name, _ in found.attributes}
    assert not {name for name in names if name.startswith("on")} | names & {"src", "srcset"}
    links = [value for name, value in found.attributes if name == "href"]
    assert all(re.fullmatch(r"#item-\d+", link) for link in links)
    assert "".join(found.texts).count(EVIL) >= 3
    assert "<script" not in html
    assert "default-src 'none'" in html


@given(st.text())
def test_any_text_is_shown_and_stays_text(text):
    """In an element and in an attribute; nothing hides or turns the direction of writing."""
    found = read(tag("p", text, title=text))

    spelt = escaped(text)
    assert found.tags == {"p"}
    assert "<" not in spelt
    assert '"' not in spelt
    assert not set("\u202e\u200b\x00") & set(spelt)
    spelt.encode()
    if text.isalnum():
        assert "".join(found.texts) == text


def test_the_report_tells_the_whole_run(html, kept):
    """Ranking, search, counts, statuses, level, report cases, failures with their lines."""
    _, manifest = kept
    text = "".join(read(html).texts)
    result = manifest.results[0]

    assert manifest.run_id in text
    assert "isolation observed: L" in text
    for row in result["variants"]:
        assert row["id"] in text
    assert "Best score over executions" in text
    assert re.search(r"made-\d+\s+n=\d+, mean 1\.000", text)
    assert "search  n=12" in text
    assert "1/1" in text
    assert "ZeroDivisionError: division by zero (line 4)" in text
    assert "seen" in text
    assert "Time of each repeat" in text
    assert "context must be a mapping" in text


def test_the_best_program_stands_beside_its_parent(html, kept):
    """A difference, line by line, from the program it was made from."""
    _, manifest = kept
    best = next(row for row in manifest.results[0]["variants"] if row["id"].startswith("made"))
    text = "".join(read(html).texts)

    assert f"The best program, {best['id']}, beside its parent" in text
    assert "+    return x * x" in text or "+def solve(x):" in text


def test_a_program_whose_code_was_lost_is_reported_as_such(kept):
    """Without the run's folder the given programs are there, and the made one is missing."""
    _, manifest = kept

    text = "".join(read(page(story_of(manifest))).texts)

    assert "Its code is not in the record." in text
    assert DOUBLE.splitlines()[1] in text


def test_the_command_writes_one_file(kept, tmp_path):
    """`scillm codeworld report RUN -o report.html`; the path is printed."""
    store, manifest = kept
    target = tmp_path / "report.html"

    done = CliRunner().invoke(
        command, ["report", manifest.run_id, "-o", str(target), "--runs-dir", str(store.root)]
    )

    assert (done.exit_code, done.output) == (0, f"{target}\n")
    assert target.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_an_unknown_run_or_place_is_an_error(kept, tmp_path):
    """With what was wrong, and no file."""
    store, manifest = kept
    runs = ["--runs-dir", str(store.root)]
    missing = str(tmp_path / "none" / "report.html")

    unknown = CliRunner().invoke(command, ["report", "nosuch", *runs])
    nowhere = CliRunner().invoke(command, ["report", manifest.run_id, "-o", missing, *runs])

    assert (unknown.exit_code, nowhere.exit_code) == (1, 1)
    assert "nosuch" in unknown.output
    assert "cannot be written" in nowhere.output


def test_another_engines_run_is_refused(kept):
    """The report is for CodeWorld's runs."""
    from attrs import evolve

    _, manifest = kept
    other = evolve(manifest, job=evolve(manifest.job, engine="certainly"))

    with pytest.raises(StoredRunError, match="certainly"):
        story_of(other)


def test_a_plain_run_without_a_search_can_be_drawn(tmp_path):
    """The sweep, with an item that expects nothing."""
    context = {"code_variants": {"a": RIGHT}, "input": 3}
    job = Job(engine="codeworld", items=[{"task": "any", "context": context}])
    store = RunStore(tmp_path)
    manifest = anyio.run(recorded.keep_job, CodeWorldEngine(), job, store)

    text = "".join(read(page(story_of(manifest, store.folder(manifest.run_id)))).texts)

    assert "not_scored" in text
    assert "Nothing has scored." in text


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the command chromium")
def test_a_real_browser_runs_nothing_of_it(html, tmp_path):
    """Chromium keeps the page's own title, although programs try to change it."""
    target = tmp_path / "report.html"
    target.write_text(html, encoding="utf-8")
    command_ = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu",
                f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
                target.as_uri()]  # fmt: skip

    dom = subprocess.run(command_, capture_output=True, text=True, timeout=60, check=True).stdout

    assert "<title>CodeWorld " in dom
    assert "<title>PWNED" not in dom
    assert "onerror=" not in re.sub(r">[^<]*<", "><", dom)


# -- the pure parts ----------------------------------------------------------------------------


def trial(arm, *, made=None, parent=None, score=1.0, withdrawn=False):
    return {"arm": arm, "made": made, "parent": parent, "score": score, "withdrawn": withdrawn}


def test_the_tree_counts_every_trial_once():
    """Below its parent stands what was made from it; withdrawn trials are not there."""
    trials = [trial("a", score=0.5), trial("a", score=None), trial("new-2", made="h", parent="a"),
              trial("b", withdrawn=True), trial("new-4", made="h", parent="a"),
              trial("new-5", made="k", parent="h", score=0.0)]  # fmt: skip

    root = tree_of({"trials": trials, "best": "h"})

    (a,) = root.children
    (h,) = a.children
    assert (root.n, a.n, a.mean, a.failed) == (5, 2, 0.5, 1)
    assert (h.n, h.best, [child.arm for child in h.children]) == (2, True, ["k"])


def test_ends_tell_right_from_wrong_and_from_not_asked():
    """`ok` alone would hide a wrong answer."""
    case = {"status": "ok", "right": True}

    def row(status, right, *cases):
        return {"status": status, "right": right, "cases": 2, "executions": list(cases)}

    bad, left = {"status": "ok", "right": False}, {"status": "not_run", "right": None}
    rows = [row("ok", 2, case, case), row("ok", 1, case, bad), row("ok", 1, case, left),
            row("timeout", 0, left, left), row("ok", None)]  # fmt: skip

    assert ends_of(rows) == {"right": 1, "ok": 1, "timeout": 1, "unfinished": 1, "wrong": 1}


@given(st.lists(st.tuples(st.text(), st.lists(st.floats(0, 1e6), max_size=4)), max_size=5))
def test_timings_can_always_be_drawn(rows):
    """No time, one time, zero, or very different ones."""
    assert read(timings(rows)).tags <= ELEMENTS


@given(st.lists(st.tuples(st.integers(0, 99), st.none() | st.floats(-1e6, 1e6)), max_size=6))
def test_curves_can_always_be_drawn(points):
    """Nothing scored, one point, negative scores."""
    rows = [list(point) for point in sorted(points, key=lambda point: point[0])]

    drawn = curve({"curve": rows}, {"curve": rows[:1]})

    assert read(drawn).tags <= ELEMENTS
    assert "nan" not in drawn


def test_the_doctor_shows_every_level():
    """What each level holds back here, and why a level cannot be had."""
    code = "from scillm_codeworld.command import command; command()"
    done = subprocess.run([sys.executable, "-c", code, "doctor", "--json"],
                          capture_output=True, text=True, timeout=120, check=False)  # fmt: skip
    rows = json.loads(done.stdout)

    assert [row["level"] for row in rows][:4] == ["L4", "L3", "L2", "L1"]
    assert (done.returncode == 0) == any(row["works"] for row in rows)
    for row in rows:
        assert row["works"] == (not row["why"])
        assert not row["works"] or row["report"]["level"] == row["level"]


def test_the_doctor_is_readable_in_a_pipe():
    """A table, and one line that says where code is run."""
    done = CliRunner().invoke(command, ["doctor"])

    assert done.exit_code == 0
    assert "network" in done.output
    assert re.search(r"Code is run at L\d here\.", done.output)
