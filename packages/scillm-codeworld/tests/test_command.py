"""`scillm codeworld run`: a table for people, plain text for pipes, JSON for programs."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from scillm.runs.store import RunStore
from scillm_codeworld.command import command
from scillm_codeworld.report.text import COLUMNS

ITEMS = {
    "items": [
        {
            "id": "square",
            "task": "Square\nthe number.",
            "context": {
                "code_variants": {
                    "right": "def solve(x): return x * x",
                    "wrong": "def solve(x): return x + x",
                    "crash": "def solve(x): return x / 0",
                },
                "inputs": [2, 3],
                "expected": [4, 9],
            },
        }
    ]
}
YAML = """
items:
- id: half
  task: Halve the number.
  context:
    input: 3
    expected: 1.5
    code_variants:
      good: |
        def solve(x):
            return x / 2
"""


@pytest.fixture
def invoke(tmp_path):
    """Run the command with a store of its own."""

    def run(*arguments):
        options = ["--runs-dir", str(tmp_path / "runs")]
        return CliRunner().invoke(command, ["run", *map(str, arguments), *options])

    return run


@pytest.fixture
def items_file(tmp_path):
    """A file with one good item."""
    path = tmp_path / "items.json"
    path.write_text(json.dumps(ITEMS))
    return path


def test_a_pipe_gets_an_aligned_table_and_the_run_is_kept(invoke, items_file, tmp_path):
    """Best first, one line per variant, and the line that replays it."""
    done = invoke(items_file, "--timeout", "5")

    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "square: Square the number."
    assert tuple(lines[1].split()) == COLUMNS
    assert [line.split()[:4] for line in lines[2:5]] == [
        ["1", "right", "ok", "2/2"],
        ["2", "wrong", "ok", "1/2"],
        ["3", "crash", "exception", "0/2"],
    ]
    assert "best: right" in lines
    assert re.fullmatch(r"items=1, succeeded=1, failed=0; isolation: L[1-4]", lines[-1])
    assert "\x1b" not in done.output
    (run_id,) = RunStore(tmp_path / "runs").ids()
    assert f"scillm runs rerun {run_id} --runs-dir" in done.stderr


def test_json_is_one_document_on_stdout(invoke, items_file, tmp_path):
    """A program reads summary, results and manifest; the rest goes to stderr."""
    done = invoke(items_file, "--json", "--seed", "7")

    document = json.loads(done.stdout)
    assert done.exit_code == 0
    assert list(document) == ["summary", "results", "run_manifest"]
    first = document["results"][0]["variants"][0]
    assert {"id", "status", "reason", "scores", "aggregate", "rank"} <= set(first)
    assert (first["id"], first["scores"]["correctness"]) == ("right", 1.0)
    assert document["results"][0]["best"] == "right"
    assert document["run_manifest"]["job"]["seed"] == 7
    assert document["run_manifest"]["item_ids"] == ["square"]
    stored = RunStore(tmp_path / "runs").load(document["run_manifest"]["run_id"])
    assert list(stored.results) == document["results"]


def test_another_language_is_allowed_by_name(invoke, tmp_path):
    """Without it the item is invalid; with it the program is run where that can be."""
    path = tmp_path / "c.json"
    variants = {"c": {"code": "int main(void){return 1;}", "language": "c"}, "py": "solve = len"}
    context = {"code_variants": variants, "input": [1], "expected": 1}
    path.write_text(json.dumps({"items": [{"task": "t", "context": context}]}))

    refused = json.loads(invoke(path, "--json").stdout)
    allowed = json.loads(invoke(path, "--json", "--language", "c", "--language", "rust").stdout)

    assert refused["results"][0]["status"] == "invalid"
    assert allowed["results"][0]["best"] == "py"
    options = allowed["run_manifest"]["job"]["options"]
    assert options["allowed_languages"] == ["python", "c", "rust"]


@pytest.mark.parametrize(
    ("words", "environ", "said"),
    [
        (["--port", "99999"], {}, "from 0 to 65535, but is 99999"),
        (["--host", "0.0.0.0"], {"CODEWORLD_TOKEN": ""}, "CODEWORLD_TOKEN"),
        (["--isolation", "L9"], {}, "isolation must be one of L1, L2, L3, L4 or wasm"),
        ([], {"SCILLM_CODEWORLD_ISOLATION": "L9"}, "must be one of L1, L2, L3, L4 or wasm"),
    ],
)
def test_a_server_that_could_not_serve_does_not_start(words, environ, said):
    """Not on another port, not for everybody, and not to refuse each job later."""
    done = CliRunner(env=environ).invoke(command, ["serve", *words])

    assert done.exit_code == 2
    assert said in done.output


def test_files_and_folders_are_merged_in_order(invoke, items_file, tmp_path):
    """A folder stands for its JSON and YAML files, sorted by name."""
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "b.yaml").write_text(YAML)
    (folder / "a.json").write_text(json.dumps(ITEMS).replace("square", "first"))
    (folder / "notes.txt").write_text("not read")

    done = invoke(folder, items_file, "--json")

    assert json.loads(done.stdout)["run_manifest"]["item_ids"] == ["first", "half", "square"]


def test_an_item_nobody_solves_or_nobody_can_read_is_exit_code_1(invoke, tmp_path):
    """The work was done, and part of it failed; the good part is shown."""
    path = tmp_path / "items.json"
    wrong = json.loads(json.dumps(ITEMS))
    del wrong["items"][0]["context"]["code_variants"]["right"]
    for document in (wrong, {"items": [*ITEMS["items"], {"task": "no context"}]}):
        path.write_text(json.dumps(document))
        done = invoke(path)

        assert done.exit_code == 1
        assert "failed=1" in done.stdout
        assert any(why in done.stdout for why in ("best: wrong; right in 1 of 2", "invalid: cont"))


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("absent.json", None, "cannot be read"),
        ("a.txt", "{}", "must be named"),
        ("a.json", "{", "cannot be parsed"),
        ("a.json", "[]", "must hold"),
        ("a.json", '{"items": {}}', "must hold"),
        ("a.json", '{"items": []}', "no items"),
        ("a.json", '{"items": [1], "seed": 3}', "'seed'"),
        ("a.json", '{"items": [{"id": "a", "id": "b"}]}', "comes twice"),
        ("a.json", "[" * 100_000, "nested"),
        ("a.yaml", "items: [", "cannot be parsed"),
        ("a.yaml", "items:\n- id: a\n  id: b\n", "comes twice"),
        ("a.yaml", "items: !!python/object/apply:os.getcwd []\n", "cannot be parsed"),
        ("a.yaml", "- 1\n", "must hold"),
    ],
)
def test_a_file_that_cannot_be_used_is_exit_code_2(invoke, tmp_path, name, text, named):
    """Nothing is run, and the message names the file and what is wrong with it."""
    path = tmp_path / name
    if text is not None:
        path.write_text(text)

    done = invoke(path)

    assert done.exit_code == 2
    assert named in done.stderr
    assert name in done.stderr
    assert not (tmp_path / "runs").exists()


def test_an_empty_folder_and_bytes_that_are_no_text_are_exit_code_2(invoke, tmp_path):
    """Also these are answered in words."""
    folder = tmp_path / "empty"
    folder.mkdir()
    binary = tmp_path / "a.json"
    binary.write_bytes(b"\xff\xfe")

    assert "no file named" in invoke(folder).stderr
    assert "not UTF-8" in invoke(binary).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--seed", "x"],
        ["--timeout", "0"],
        ["--frob"],
        ["--language", "cobol"],
        ["--module", "os"],
    ],
)
def test_wrong_usage_is_exit_code_2(invoke, items_file, arguments):
    """Missing files, unknown options and values that cannot be used."""
    files = [items_file] if arguments else []

    assert invoke(*files, *arguments).exit_code == 2


def test_an_item_that_no_manifest_could_hold_is_that_items_fault(invoke, tmp_path):
    """YAML has dates and NaN; the item that uses one is named, the other is run and kept."""
    path = tmp_path / "a.yaml"
    odd = "{id: %s, task: t, context: {code_variants: {a: x}, input: %s, expected: 1}}\n"
    path.write_text(f"{YAML}\n- {odd % ('dated', '2024-01-01')}- {odd % ('nan', '.nan')}")

    done = invoke(path)

    assert done.exit_code == 1
    assert "best: good" in done.stdout
    assert "invalid: it is not plain JSON: item['context']['input'] is a date" in done.stdout
    assert "invalid: it is not plain JSON: item['context']['input'] is nan" in done.stdout
    store = RunStore(tmp_path / "runs")
    kept = store.load(store.ids()[0])
    assert [row["item_id"] for row in kept.results] == ["half", "dated", "nan"]


def test_the_installed_command_runs_in_a_real_process_and_its_run_can_be_checked(
    items_file, tmp_path
):
    """`scillm codeworld run`, then verify, rerun, replay and export, as a user types them."""
    environ = {**os.environ, "SCILLM_RUNS_DIR": str(tmp_path / "kept")}

    def scillm(*arguments):
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "scillm", *arguments],
            capture_output=True,
            text=True,
            env=environ,
            check=False,
            timeout=120,
        )

    ran = scillm("codeworld", "run", str(items_file))
    run_id = re.search(r"scillm runs rerun (\S+)", ran.stderr)[1]
    checked = scillm("runs", "verify", run_id)
    repeated = scillm("runs", "rerun", run_id)
    again = scillm("runs", "replay", run_id)
    exported = scillm("runs", "export", run_id, "-o", str(tmp_path / "run.zip"))
    elsewhere = scillm("runs", "verify", str(tmp_path / "run.zip"), "--json")

    assert ran.returncode == 0, ran.stderr
    assert "best: right" in ran.stdout
    assert (checked.returncode, "is sound" in checked.stdout) == (0, True), checked
    assert (repeated.returncode, "every row of the record" in repeated.stdout) == (0, True)
    assert (again.returncode, "square/right" in again.stdout) == (0, True), again.stderr
    assert exported.returncode == 0, exported.stderr
    assert json.loads(elsewhere.stdout)["sound"] is True


def in_a_terminal(arguments, *, columns):
    """What `python -m scillm …` writes to a real terminal of that width."""
    leader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns)}
    environ.pop("NO_COLOR", None)
    running = subprocess.Popen(
        [sys.executable, "-m", "scillm", *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environ,
    )
    os.close(terminal)
    parts = []
    try:
        while chunk := os.read(leader, 65536):
            parts.append(chunk)
    except OSError:
        pass  # Linux reports the end of a terminal as an error
    os.close(leader)
    return running.wait(timeout=60), b"".join(parts).decode()


def test_a_terminal_gets_colour_progress_and_a_table_that_fits(items_file, tmp_path):
    """At 80 columns every row is one line; the reasons stand below, in full."""
    code, text = in_a_terminal(
        ["codeworld", "run", str(items_file), "--runs-dir", str(tmp_path / "runs")], columns=80
    )

    bare = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert code == 0, text
    assert "\x1b[32mok" in text
    assert "0 of 1 items" in bare
    assert re.search(r"^ 3 +crash +exception +0/2 +- +0\.000 +- *\r?$", bare, re.MULTILINE), bare
    assert "crash\r\n  case 1 of 2: ZeroDivisionError: division by zero (line 1)" in bare


def test_an_interrupted_run_ends_its_programs_and_says_how_to_go_on(tmp_path):
    """Ctrl-C: exit code 130 at once, no process left, and a run that can be resumed."""
    path = tmp_path / "loop.json"
    loop = "def solve(x):\n    while True: pass"
    item = {"task": "t", "context": {"code_variants": {"a": loop}, "input": 1, "expected": 1}}
    path.write_text(json.dumps({"items": [item]}))
    runs = tmp_path / "runs"
    arguments = ["codeworld", "run", path, "--timeout", "600", "--runs-dir", runs]
    running = subprocess.Popen(
        [sys.executable, "-m", "scillm", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        task = Path("/proc") / str(running.pid) / "task"
        deadline = time.monotonic() + 30
        rows = None
        while time.monotonic() < deadline:
            children = _children(task)
            rows = next(iter(runs.glob("*/record.jsonl")), None) if children else None
            if rows is not None and rows.read_bytes().count(b"\n") >= 2:
                break
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        _, complaint = running.communicate(timeout=30)
    finally:
        running.kill()
        running.communicate()

    assert children
    assert running.returncode == 130, complaint
    assert b"Traceback" not in complaint
    assert not any((Path("/proc") / child).exists() for child in children)
    store = RunStore(runs)
    assert store.ids() == []
    (run_id,) = store.unfinished()
    assert f"scillm runs resume {run_id}".encode() in complaint


def _children(task):
    try:
        return [child for row in task.glob("*/children") for child in row.read_text().split()]
    except OSError:
        return []
