"""A model under someone else's command asks for secrets: no tool of the agent hands them out."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.plugins.groups import EXTRAS
from scillm.plugins.registry import Registry
from scillm_codex.agent.opening import ToolPlan, with_tools
from scillm_codex.agent.records import Call
from scillm_codex.agent.tools.folder import OutsideError, WorkFolder, steps_of

if TYPE_CHECKING:
    from scillm_codex.agent.toolbox import Toolbox

SECRET = "sk-secret-0123456789"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with a login in it, a key in the environment, and a work folder."""
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex" / "auth.json").write_text(json.dumps({"OPENAI_API_KEY": SECRET}))
    work = tmp_path / "work"
    work.mkdir()
    (work / "notes.txt").write_text("plain notes")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    return tmp_path


def registry(runner: str) -> Registry:
    """With CodeWorld's sandbox on offer, or without."""
    found = Registry(offers=())
    if runner == "codeworld":
        sandbox = pytest.importorskip("scillm_codeworld.sandbox")
        found.register(EXTRAS, "open_sandbox", sandbox.open_sandbox)
    return found


def answers(plan: ToolPlan, runner: str, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
    async def work(box: Toolbox) -> list[Any]:
        made = [
            Call(id=str(n), name=name, arguments=arguments)
            for n, (name, arguments) in enumerate(calls)
        ]
        return [await box.carry_out(one) for one in made]

    async def main() -> list[Any]:
        transport: Any = None
        return await with_tools(plan, work, plugins=registry(runner), transport=transport)

    return anyio.run(main)


RUNNERS = ("plain", "codeworld")
LIBC = """import ctypes
c, b = ctypes.CDLL(None), ctypes.create_string_buffer(99)
c.read(c.open({path!r}, 0), b, 99)
print(b.raw)
"""


@pytest.mark.parametrize("runner", RUNNERS)
def test_programs_see_no_secret(runner: str, home: Path) -> None:
    """Python the model wrote reads no login, no environment key, no other process, no work file."""
    auth = str(home / ".codex" / "auth.json")
    programs = [
        f"print(open({auth!r}).read())",
        "import os; print(dict(os.environ))",
        "import glob\nfor p in glob.glob('/proc/*/environ'): print(open(p, 'rb').read())",
        f"print(open('/proc/{os.getpid()}/environ', 'rb').read())",
        f"print(open('/proc/{os.getpid()}/root{auth}').read())",
        f"import os; os.symlink({auth!r}, 'link'); print(open('link').read())",
        f"import os; os.link({auth!r}, 'link'); print(open('link').read())",
        f"import subprocess; print(subprocess.run(['cat', {auth!r}], capture_output=True))",
        f"print(open({str(home / 'work' / 'notes.txt')!r}).read())",
        LIBC.format(path=auth.encode()),
        f"open({str(home / 'planted')!r}, 'w').write('x')",
    ]
    plan = ToolPlan(tools=["python"])
    calls = [("exec_python", {"code": f"print('began')\n{code}"}) for code in programs]
    told = [one.text for one in answers(plan, runner, *calls)]

    assert [text for text in told if SECRET in text or "plain notes" in text] == []
    assert all("began" in text for text in told)
    assert not (home / "planted").exists()


@pytest.mark.parametrize("runner", RUNNERS)
def test_programs_reach_no_service(runner: str) -> None:
    """A program cannot send what it knows anywhere, not even on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        seen: list[Any] = []
        server.settimeout(1)
        thread = threading.Thread(target=lambda: seen.extend(_accepted(server)))
        thread.start()
        code = (
            "import socket\n"
            f"for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):\n"
            f"    try:\n        s = socket.socket(socket.AF_INET, kind)\n"
            f"        s.connect(('127.0.0.1', {port}))\n        s.send(b'x')\n"
            "        print('sent', kind)\n"
            "    except OSError as e:\n        print('held', e)\n"
        )
        (answer,) = answers(ToolPlan(tools=["python"]), runner, ("exec_python", {"code": code}))
        thread.join()

    assert "held" in answer.text
    assert "SOCK_STREAM" not in answer.text
    assert seen == []


def _accepted(server: socket.socket) -> list[Any]:
    try:
        connection, address = server.accept()
    except TimeoutError:
        return []
    connection.close()
    return [address]


def test_javascript_sees_no_secret(home: Path) -> None:
    """The same holds for JavaScript in the plain process, where Node is installed."""
    auth = str(home / ".codex" / "auth.json")
    reads = f"try {{ console.log(fs.readFileSync({auth!r}, 'utf8')) }} catch (e) {{}}"
    code = f"const fs = require('fs'); console.log('began', process.env); {reads}"
    plan = ToolPlan(tools=["javascript"])

    async def names(box: Toolbox) -> bool:
        return "exec_javascript" in box.names

    async def main() -> bool:
        transport: Any = None
        return await with_tools(plan, names, plugins=registry("plain"), transport=transport)

    if not anyio.run(main):
        pytest.skip("Node is not installed here")
    (answer,) = answers(plan, "plain", ("exec_javascript", {"code": code}))

    assert "began" in answer.text
    assert SECRET not in answer.text


def test_files_stay_in_the_work_folder(home: Path) -> None:
    """No path, link or other name of a file leads a file tool out of the work folder."""
    work, auth = home / "work", home / ".codex" / "auth.json"
    (work / "link").symlink_to(auth)
    (work / "folder").symlink_to(home / ".codex")
    (work / "hard").hardlink_to(auth)
    os.mkfifo(work / "pipe")
    paths = [
        str(auth),
        "../.codex/auth.json",
        "a/../../.codex/auth.json",
        "link",
        "folder/auth.json",
        "hard",
        "pipe",
        "/proc/self/environ",
        "~/.codex/auth.json",
        "link\0",
        "",
        ".",
    ]
    plan = ToolPlan(tools=["files"], folder=work)
    read = answers(plan, "plain", *(("read_file", {"path": path}) for path in paths))
    listed = answers(plan, "plain", *(("list_files", {"path": p}) for p in ("..", "folder", "/")))
    wrote = answers(
        plan, "plain", *(("write_file", {"path": path, "content": "planted"}) for path in paths[:9])
    )

    assert [one.text for one in (*read, *listed) if one.ok] == []
    assert [path for path, one in zip(paths, wrote, strict=False) if one.ok] == [
        "~/.codex/auth.json"
    ]
    assert (work / "~" / ".codex" / "auth.json").read_text() == "planted"
    assert SECRET in auth.read_text()
    assert not any(SECRET in one.text for one in (*read, *listed, *wrote))


@given(path=st.text(alphabet="ab./\\~\0", max_size=20))
def test_every_step_of_an_accepted_path_goes_down(path: str) -> None:
    """A path that is taken has only names in it: nothing absolute, nothing upwards."""
    try:
        steps = steps_of(path)
    except OutsideError:
        assert path.startswith("/") or ".." in path or "\0" in path
        return

    assert all(step not in ("", ".", "..") and "/" not in step for step in steps)


def test_files_are_read_and_written_within_bounds(tmp_path: Path) -> None:
    """A folder lists its names, a file gives no more than asked for, and says its whole size."""
    folder = WorkFolder(tmp_path)
    folder.write("a/b.txt", b"long")
    folder.write("a/b.txt", b"abc")

    assert folder.read("a/b.txt", most_bytes=2) == (b"ab", 3)
    assert folder.names("", most=10) == (["a/"], 0)
    assert folder.names("a", most=0) == ([], 1)


def test_only_the_allowed_words_are_run(home: Path) -> None:
    """A command is run word for word as it was allowed: no shell, no more words, no others."""
    auth = str(home / ".codex" / "auth.json")
    tried = [
        ["cat", auth],
        ["cat", "notes.txt", auth],
        ["cat", f"notes.txt; cat {auth}"],
        ["sh", "-c", f"cat {auth}"],
        ["/bin/cat", "notes.txt"],
        ["cat notes.txt"],
        [],
    ]
    plan = ToolPlan(folder=home / "work", commands=["cat notes.txt", "env"])
    refused = answers(plan, "plain", *(("run_command", {"argv": argv}) for argv in tried))
    good, env = answers(
        plan,
        "plain",
        ("run_command", {"argv": ["cat", "notes.txt"]}),
        ("run_command", {"argv": ["env"]}),
    )

    assert [one.ok for one in refused] == [False] * len(tried)
    assert not any(SECRET in one.text for one in refused)
    assert good.text == "plain notes"
    assert SECRET not in env.text
    assert "OPENAI_API_KEY" not in env.text


def test_a_command_leaves_nothing_running(home: Path) -> None:
    """What an allowed command starts in the background ends with it."""
    script = home / "work" / "spawn.sh"
    script.write_text("sleep 77.125 &\necho started\n")
    plan = ToolPlan(folder=home / "work", commands=["sh spawn.sh"])
    (answer,) = answers(plan, "plain", ("run_command", {"argv": ["sh", "spawn.sh"]}))
    left = [
        process.name
        for process in Path("/proc").glob("[0-9]*")
        if b"77.125" in _command_line(process)
    ]

    assert answer.text == "started"
    assert left == []


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_program_that_never_ends_is_stopped_with_all_it_started(runner: str) -> None:
    """A runaway ends at its time, and no process of it is left."""
    code = (
        "import os, time\n"
        "mark = 'runaway-88125'\n"
        "try:\n"
        "    child = os.fork()\n"
        "    if not child:\n        os.setsid()\n"
        "except OSError:\n    pass\n"
        "while True: pass\n"
    )
    plan = ToolPlan(tools=["python"], timeout_s=1.0)
    (answer,) = answers(plan, runner, ("exec_python", {"code": code}))

    assert not answer.ok
    assert "timeout" in answer.text or "stopped after 1 s" in answer.text
    assert [p.name for p in Path("/proc").glob("[0-9]*") if _is_ours(p)] == []


def _command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def _is_ours(process: Path) -> bool:
    return b"mini-agent-" in _command_line(process) and b"program.py" in _command_line(process)
