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
from scillm.models import ChatMessage, Choice, Completion, Usage
from scillm.records import Job
from scillm.runs import recorded
from scillm.runs.store import RunStore
from scillm_codeworld.command import command
from scillm_codeworld.engine.jobs import CodeWorldEngine
from scillm_codeworld.engine.making import Made
from scillm_codeworld.records import Variant
from scillm_codeworld.report import text as plain
from scillm_codeworld.report.figures import curve, statuses, timings, tree
from scillm_codeworld.report.markup import escaped, tag
from scillm_codeworld.report.page import page
from scillm_codeworld.report.programs import best_program, failures
from scillm_codeworld.report.story import Story, ends_of, repeats_of, story_of, tree_of

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


# -- other runs --------------------------------------------------------------------------------


class Recited:
    """A Provider that gives the same answers, one after the other, and then the last again."""

    def __init__(self, *answers):
        self.answers = list(answers)

    async def complete(self, request, /):
        programs = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        words = {"title": "", "complexity_tier": "", "rationale": EVIL, "notes": ""}
        variants = [{"id": name, "code": code, **words} for name, code in programs.items()]
        message = ChatMessage(content=json.dumps({"variants": variants}))
        return Completion(
            model="recited",
            choices=[Choice(message=message, finish_reason="stop")],
            usage=Usage(prompt_tokens=30, completion_tokens=10, total_tokens=40),
        )


def drawn(tmp_path, *, engine=None, programs=None, inputs=CASES, **options):
    """The manifest of a run of one item, and the texts and source of its page."""
    context = {"inputs": inputs, "expected": [x * x for x in inputs]}
    if programs is not None:
        context["code_variants"] = programs
    items = [{"id": "square", "task": "Square the number.", "context": context}]
    options = {"repeats": 0, "width": 1, "workers": 1, **options}
    job = Job(engine="codeworld", items=items, options=options, seed=3)
    store = RunStore(tmp_path)
    manifest = anyio.run(recorded.keep_job, engine or CodeWorldEngine(), job, store)
    html = page(story_of(manifest, store.folder(manifest.run_id)))
    found = read(html)
    assert found.tags <= ELEMENTS
    return manifest.results[0], "".join(found.texts), html


def test_an_archive_and_what_a_model_wrote_are_told(tmp_path):
    """Every island's elites with their cells; how many programs were usable, and why not."""
    generator = Recited(
        {"double": DOUBLE, "cube": "def solve(x): return x ** 3", "loud": PROGRAMS["loud"]},
        {"better": RIGHT},
    )
    wish = {"n": 4, "model": "openai/recited", "refine": True}

    result, text, _ = drawn(
        tmp_path,
        engine=CodeWorldEngine(generator=generator),
        strategy="evolve",
        params={"islands": 2},
        budget={"rollouts": 5},
        autogenerate=wish,
    )

    islands = result["search"]["report"]["islands"]
    assert "Archive" in text
    for island in islands:
        for elite in island:
            assert f"lines {elite['cell']['lines']}, signature {elite['cell']['signature']}" in text
    assert re.search(r"asked for4usable2missing2rejectedloud: .*ValueError", text)
    assert "tokens of this call40" in text
    assert "modelopenai/recited" in text


def test_a_search_stands_beside_its_control(tmp_path):
    """What the same number of executions found blindly, in words and as a line."""
    result, text, html = drawn(
        tmp_path, programs={"right": RIGHT, **PROGRAMS}, strategy="ucb", budget={"rollouts": 50}
    )

    control = result["search"]["baseline"]
    assert f"after {control['executions']} executions" in text
    assert "line control" in html
    assert "right was not made from another program" in text


def test_only_timed_repeats_are_drawn_as_such(tmp_path):
    """The first run is no timing, and a program that is wrong has none."""
    result, text, html = drawn(
        tmp_path, programs={"right": RIGHT, "wrong": "def solve(x): return 0"}, repeats=3
    )

    rows = {row["id"]: row for row in result["variants"]}
    assert [len(repeats_of(rows[name])) for name in ("right", "wrong")] == [3, 0]
    assert "Time of each repeat" in text
    drawing = html.split("Time of each repeat over all cases")[1].split("</svg>")[0]
    assert drawing.count("<circle") == 3
    assert ">wrong<" not in drawing


def test_times_without_a_noise_floor_are_drawn_without_one(tmp_path):
    """Where only a scorer says what is good, no two times are called the same."""
    scorer = "def score(task, context, outputs, timings): return {'answer': 1.0}"
    context = {"code_variants": {"a": RIGHT}, "input": 3, "scoring": scorer}
    job = Job(engine="codeworld", items=[{"task": "any", "context": context}],
              options={"repeats": 2})  # fmt: skip
    manifest = anyio.run(recorded.keep_job, CodeWorldEngine(), job, RunStore(tmp_path))

    shown = "".join(read(page(story_of(manifest))).texts)

    assert "Time of each repeat" in shown
    assert "are called the same" not in shown


def test_a_program_that_was_not_run_is_neither_right_nor_wrong(tmp_path):
    """Of a race the losers are told by the cases they ran, the others by nothing."""
    programs = {"right": RIGHT, **{f"wrong {n}": f"def solve(x): return {n}" for n in range(9)}}

    result, text, _ = drawn(tmp_path, programs=programs, strategy="race")

    lost = [row for row in result["variants"] if row["status"] == "ok" and row["id"] != "right"]
    left = [row for row in result["variants"] if row["status"] == "not_run"]
    assert lost
    assert left
    for row in lost:
        assert re.match(r"wrong in \d of \d cases", row["reason"])
        assert "not_run" not in row["reason"]
    assert f"{left[0]['id']}not_run--" in text


def test_long_things_are_cut_and_say_so(tmp_path):
    """Code and answers longer than a page takes, and more failures than are shown."""
    long = "def solve(x):\n    return 'y' * 5000\n" + "# filler\n" * 8000

    _, text, _ = drawn(tmp_path, programs={"long": long}, inputs=[1, 2, 3, 4, 5])

    assert f"… cut here: {len(long)} characters in all" in text
    assert "… cut here: 5002 characters in all" in text
    assert "2 more cases failed." in text


def test_two_equal_programs_differ_in_nothing(tmp_path):
    """A refinement that is a copy is said to be one."""

    async def copy(item, trial, known):
        variant = Variant(id="copy", code=RIGHT + "\n", origin={"parent": trial.parent})
        return Made(variant=variant)

    result, _, _ = drawn(
        tmp_path, engine=CodeWorldEngine(make=copy), strategy="mcts", budget={"rollouts": 2},
        programs={"crash": PROGRAMS["crash"]},
    )  # fmt: skip
    parent, made = {"id": "crash", "code_digest": "d"}, {"id": "copy", "code_digest": "d"}
    rows = [{**parent, "origin": {}}, {**made, "origin": {"parent": "crash"}}]
    story = Story(run_id="", created="", seed=0, options={}, environment={}, summary={},
                  results=(), codes={"d": RIGHT})  # fmt: skip

    shown = best_program(story, {"best": "copy", "variants": rows})

    assert result["best"] == "copy"
    assert "The two are the same." in shown


def test_lost_code_of_a_failure_leaves_its_cases():
    """What went wrong is told even where the program itself is gone."""
    case = {"case": 1, "status": "exception", "reason": "boom", "right": False}
    row = {"id": "gone", "reason": "boom", "code_digest": "d", "executions": [case]}
    story = Story(run_id="", created="", seed=0, options={}, environment={}, summary={},
                  results=(), codes={})  # fmt: skip

    shown = failures(story, [row])

    assert "Case 1, exception: boom" in shown
    assert "The program" not in shown


def test_a_large_tree_is_drawn_in_part_and_says_so():
    """Four hundred programs are drawn; the rest is named as being elsewhere."""
    small, large = (tree_of({"trials": [trial(f"p{n}") for n in range(count)]})
                    for count in (399, 400))  # fmt: skip

    assert "The first 400 programs" not in tree(small, {})
    assert "The first 400 programs are drawn" in tree(large, {})
    assert tree(large, {}).count("<circle") == 400


def test_nothing_that_was_run_has_no_bar():
    """No division by zero, and no empty picture."""
    assert "No program was run." in statuses({})


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


def test_a_terminal_is_told_the_search_and_every_reason(tmp_path):
    """The best of the search beside its control; what was wrong, program by program."""
    result, _, _ = drawn(
        tmp_path, programs={"right": RIGHT, "half": "def solve(x): return x + 2"}, strategy="race"
    )

    search, control = result["search"], result["search"]["baseline"]
    spent = int(search["spent"]["executions"])
    own, other = plain.search_lines(result)
    assert own == f"race: best right (1.000) after {spent} of 6 executions (stopped: finished)"
    assert other.startswith("uniform, whole programs, same budget: best ")
    assert other.endswith(f"after {control['executions']} executions")
    (half,) = [row for row in result["variants"] if row["id"] == "half"]
    assert plain.reasons(result) == ([("half", half["reason"])] if half["reason"] else [])
    assert plain.rows(result)[0][3] == "3/3"


def test_a_terminal_is_told_a_search_without_control(tmp_path):
    """Where programs are made nothing can stand beside it, and what it did is told all the same."""
    result, _, _ = drawn(
        tmp_path, engine=CodeWorldEngine(make=make), strategy="mcts", budget={"rollouts": 3},
        programs={"crash": PROGRAMS["crash"]},
    )  # fmt: skip

    spent = int(result["search"]["spent"]["executions"])
    (own,) = plain.search_lines(result)
    assert re.fullmatch(
        rf"mcts: best \S+ \(1\.000\) after {spent} executions \(stopped: rollouts\)", own
    )


def test_a_terminal_is_told_when_nothing_scored(tmp_path):
    """A dash stands for what there is not; a long time is told in seconds."""
    result, _, _ = drawn(tmp_path, programs={"crash": PROGRAMS["crash"]}, strategy="ucb")

    own, other = plain.search_lines(result)
    assert own == "ucb: best - after 3 of 3 executions (stopped: finished)"
    assert "best - after" in other
    assert plain.closing(result) == "no best variant: none of 1 variants is right in every case"
    assert (plain.seconds(None), plain.seconds(0.5), plain.seconds(2)) == (
        "-",
        "500.0 ms",
        "2.00 s",
    )
    assert plain.search_lines({"search": {}}) == []
    assert plain.isolation([]) == "nothing was run"


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
