"""Other languages: which tools they need, how they are built and started, what is shown to them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, frozen
from scillm.errors import UsageError

from scillm_codeworld.records import Program

if TYPE_CHECKING:
    from scillm.records import Json

PYTHON = "python"
PROGRAM = "./program"
PROGRAM_BYTES = 16 << 20
"""A run's folder holds no more (`inside.cell.WORK_BYTES`)."""
SYSTEM = ("/usr", "/etc/alternatives", "/etc/ld.so.cache")
"""What the tools of a distribution are made of; nothing in it is anybody's secret."""
ASK_S = 20.0


@frozen(kw_only=True)
class Language:
    """How programs of one language are made and run. `tools` are tried in order."""

    name: str
    tools: Sequence[str]
    source: str
    flags: Sequence[str] = ()
    compiled: bool = True
    after: Sequence[str] = ()
    """Flags that must follow the source."""


LANGUAGES: Mapping[str, Language] = {
    language.name: language
    for language in (
        Language(name="javascript", tools=("node", "nodejs"), source="program.js", compiled=False),
        Language(
            name="c",
            tools=("gcc", "clang", "cc"),
            source="program.c",
            flags=("-std=gnu11", "-O2", "-o", PROGRAM),
            after=("-lm",),
        ),
        Language(
            name="cpp",
            tools=("g++", "clang++", "c++"),
            source="program.cc",
            flags=("-std=gnu++17", "-O2", "-o", PROGRAM),
        ),
        Language(
            name="rust",
            tools=("rustc",),
            source="program.rs",
            # Its own linker wants /proc; the distribution's does not.
            flags=(
                "--edition=2021",
                "-Copt-level=2",
                "-Cstrip=symbols",
                "-Clink-arg=-fuse-ld=bfd",
                "-o",
                PROGRAM,
            ),
        ),
        Language(
            name="go",
            tools=("go",),
            source="program.go",
            flags=("build", "-o", PROGRAM),
        ),
    )
}


@frozen(kw_only=True)
class Tool:
    """A language's tool as it was found on this host, and the folders it needs."""

    language: Language
    path: str
    bind: Sequence[str] = field(factory=tuple)
    flags: Sequence[str] = field(factory=tuple)
    environment: Mapping[str, str] = field(factory=dict)


def check_languages(names: Sequence[str]) -> None:
    """`UsageError` for a language nobody knows."""
    known = (PYTHON, *LANGUAGES)
    for name in names:
        if name not in known:
            raise UsageError(f"CodeWorld runs {', '.join(known)}, but not {name!r}.")


def found(name: str) -> Tool | None:
    """The tool for language `name` on this host, or None."""
    language = LANGUAGES[name]
    for tool in language.tools:
        path = shutil.which(tool)
        if path is None:
            continue
        if name == "rust":
            root = _rust_root(path)
            if root is None:
                continue
            return Tool(
                language=language,
                path=f"{root}/bin/rustc",
                bind=existing((*SYSTEM, root)),
                # Without /proc neither the loader nor the compiler finds its own place.
                flags=("--sysroot", root),
                environment={"LD_LIBRARY_PATH": f"{root}/lib"},
            )
        real = str(Path(path).resolve())
        if name == "go":
            root = str(Path(real).parent.parent)
            return Tool(
                language=language,
                path=real,
                bind=existing((*SYSTEM, root)),
                environment={**GO_ENVIRONMENT, "GOROOT": root},
            )
        return Tool(language=language, path=real, bind=existing((*SYSTEM, real)))
    return None


def existing(paths: Sequence[str]) -> tuple[str, ...]:
    """Those of `paths` that are there."""
    return tuple(path for path in paths if Path(path).exists())


def _rust_root(path: str) -> str | None:
    """Where the compiler behind rustup's stand-in really lives."""
    try:
        done = subprocess.run(  # noqa: S603
            [path, "--print", "sysroot"],
            capture_output=True,
            text=True,
            timeout=ASK_S,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return os.path.realpath(done.stdout.strip())


def missing(name: str) -> str:
    """The sentence for a language without its tool."""
    return (
        f"{name} needs {' or '.join(LANGUAGES[name].tools)} on the PATH, and there is none; "
        "install it, or leave the language out"
    )


BUILDER = Program(
    code="""
import base64, os, subprocess
def solve(x):
    with open(x["source"], "w", encoding="utf-8") as file:
        file.write(x["code"])
    words = {name: text.replace("{work}", os.getcwd()) for name, text in x["environment"].items()}
    done = subprocess.run(
        x["command"], stdin=subprocess.DEVNULL, capture_output=True, env=words)
    if done.returncode:
        said = (done.stderr or done.stdout).decode("utf-8", "replace")
        return {"error": said[:3000] or "exit code %d" % done.returncode}
    size = os.path.getsize(x["program"])
    if size > x["most_bytes"]:
        return {"size": size}
    with open(x["program"], "rb") as file:
        return {"program": base64.b64encode(file.read()).decode()}
"""
)
"""Runs a compiler inside the build sandbox and hands its product out."""
TOOL_ENVIRONMENT: Mapping[str, str] = {
    "PATH": "/usr/bin:/bin",
    "HOME": ".",
    "TMPDIR": ".",
    "LC_ALL": "C.UTF-8",
}


GO_ENVIRONMENT: Mapping[str, str] = {
    "GOCACHE": "{work}/cache",
    "GOPATH": "{work}/path",
    "GOTMPDIR": "{work}",
    "GO111MODULE": "off",
    "GOTOOLCHAIN": "local",
    "GOTELEMETRY": "off",
    "CGO_ENABLED": "0",
    "GOFLAGS": "-p=2",
}
"""One file and the standard library, nothing fetched; `{work}` is the build's own folder."""


def build_input(tool: Tool, code: str) -> Json:
    """What the builder is told."""
    language = tool.language
    return {
        "code": code,
        "source": language.source,
        "program": PROGRAM,
        "most_bytes": PROGRAM_BYTES,
        "command": [tool.path, *tool.flags, *language.flags, language.source, *language.after],
        "environment": {**TOOL_ENVIRONMENT, **tool.environment},
    }


def launch_words(tool: Tool, size: int, *, memory_mb: int) -> dict[str, Json]:
    """How the finished program is started."""
    file = PROGRAM if tool.language.compiled else f"./{tool.language.source}"
    argv = [file]
    if tool.language.name == "javascript":
        argv = [tool.path, f"--max-old-space-size={memory_mb}", file]
    return {"file": file, "size": size, "argv": argv, "environment": dict(TOOL_ENVIRONMENT)}
