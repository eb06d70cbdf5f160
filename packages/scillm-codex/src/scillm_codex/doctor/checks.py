"""What the doctor tries, in order: each check stands on the ones before it, or is not run."""

from __future__ import annotations

import json
import stat
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from attrs import evolve
from scillm.errors import EngineError, ScillmError, UsageError
from scillm.records import ChatRequest, Check

from scillm_codex.doctor.auth import LOGIN, SHARED, read_auth_file
from scillm_codex.sidecar.app import Sidecar, prepared
from scillm_codex.sidecar.binary import INSTALL, find_binary, untested, with_version
from scillm_codex.sidecar.codex import CodexServer
from scillm_codex.sidecar.keeper import Keeper

if TYPE_CHECKING:
    from pathlib import Path

    from scillm_codex.sidecar.child import Command

TRY_S = 20.0
ASK_S = 120.0
AFTER = "not run: {why}"
QUESTIONS = ("chat", "JSON judge")
AFTER_HOME = ("config", "sandbox helper", "handshake", "models", *QUESTIONS)
JUDGE = (
    "Two answers to 'What is 2 + 2?' are given. A: 4. B: 5. Say which is right as a JSON object "
    'with the key "best" ("A" or "B").'
)
VERDICT = {
    "type": "object",
    "properties": {"best": {"type": "string", "enum": ["A", "B"]}},
    "required": ["best"],
    "additionalProperties": False,
}


async def examine(sidecar: Sidecar, *, setting: Path | None, ask: bool) -> list[Check]:
    """Every check of the doctor; `ask` lets it send two questions to the model."""
    binary_check, sidecar = await _binary(sidecar, setting)
    checks = [binary_check, _auth(sidecar)]
    if not binary_check.ok or sidecar.binary is None:
        return [*checks, *_left_out(("home", *AFTER_HOME), "there is no binary")]
    try:
        command, place = prepared(sidecar, sidecar.binary)
    except (OSError, UsageError) as error:
        fix = "set SCILLM_CODEX_HOME to a folder you may write to, not below /tmp"
        failed = Check(name="home", ok=False, detail=str(error), fix=fix)
        return [*checks, failed, *_left_out(AFTER_HOME, "there is no home")]
    checks.append(_home(place.home))
    checks.append(await _config(command))
    checks.append(await _helper(command))
    async with Keeper(command) as keeper:
        server = CodexServer(keeper, place, idle_s=ASK_S)
        started = await _handshake(keeper)
        checks.append(started)
        checks += await _asked(server, sidecar, started, checks[1], ask=ask)
    return checks


def _left_out(names: Sequence[str], why: str) -> list[Check]:
    return [Check(name=name, ok=None, detail=AFTER.format(why=why)) for name in names]


async def _binary(sidecar: Sidecar, setting: Path | None) -> tuple[Check, Sidecar]:
    try:
        found = await anyio.to_thread.run_sync(lambda: with_version(find_binary(setting)))
    except (UsageError, EngineError) as error:
        return Check(name="binary", ok=False, detail=error.message, fix=INSTALL), sidecar
    detail = f"codex {found.version} at {found.path} (from {found.source})"
    if not found.tested:
        detail += f". {untested(found)}"
    return Check(name="binary", ok=True, detail=detail), evolve(sidecar, binary=found)


def _auth(sidecar: Sidecar) -> Check:
    if sidecar.upstream is not None:
        return Check(
            name="login",
            ok=None,
            detail=AFTER.format(why=f"requests go to {sidecar.upstream.base_url} instead"),
        )
    auth = read_auth_file(sidecar.auth)
    told = [auth.mode, *([f"expires {auth.expires}"] if auth.expires else []), *auth.warnings]
    if auth.usable:
        return Check(name="login", ok=True, detail="; ".join(told))
    return Check(name="login", ok=False, detail=auth.problem, fix=LOGIN)


def _home(home: Path) -> Check:
    mode = stat.S_IMODE(home.stat().st_mode)
    good = not mode & SHARED
    return Check(
        name="home",
        ok=good,
        detail=f"{home}, mode {mode:04o}",
        fix="" if good else f"chmod 700 {home}",
    )


async def _config(command: Command) -> Check:
    code, _out, said = await _run(command, "app-server", "--print-startup-config")
    if code == 0:
        return Check(name="config", ok=True, detail="the generated config.toml loads")
    if "unexpected argument" in said:
        return Check(name="config", ok=None, detail=AFTER.format(why="this Codex cannot tell"))
    fix = f"this Codex does not take the config of this version of scillm-codex. {INSTALL}"
    return Check(name="config", ok=False, detail=said[-300:], fix=fix)


async def _helper(command: Command) -> Check:
    """What `codex doctor` says of its sandbox; an extra, never the only word."""
    name = "sandbox helper"
    code, out, said = await _run(command, "doctor", "--json")
    try:
        report = json.loads(out)
        found = report["checks"]["sandbox.helpers"]
    except (ValueError, KeyError, TypeError):
        why = f"`codex doctor --json` ended with {code} and told nothing of it: {said[-200:]}"
        return Check(name=name, ok=None, detail=why)
    status = str(found.get("status"))
    return Check(
        name=name,
        ok={"ok": True, "fail": False}.get(status),
        detail=f"{status}: {found.get('summary') or found.get('message') or ''}",
        fix="see `codex doctor`" if status == "fail" else "",
    )


async def _run(command: Command, *arguments: str) -> tuple[int, bytes, str]:
    argv = [command.argv[0], *arguments]
    try:
        with anyio.fail_after(TRY_S):
            done = await anyio.run_process(
                argv, env=dict(command.env), cwd=command.cwd, check=False
            )
    except TimeoutError:
        return -1, b"", f"no end within {TRY_S:g} s"
    return done.returncode, done.stdout, done.stderr.decode("utf-8", "replace").strip()


async def _handshake(keeper: Keeper) -> Check:
    try:
        child = await keeper.ready()
    except ScillmError as error:
        return Check(name="handshake", ok=False, detail=error.message, fix="see the lines above")
    return Check(name="handshake", ok=True, detail=f"{child.handshake_s * 1000:.0f} ms")


async def _asked(
    server: CodexServer, sidecar: Sidecar, started: Check, login: Check, *, ask: bool
) -> list[Check]:
    if not started.ok:
        return _left_out(("models", *QUESTIONS), "Codex did not start")
    models = await _tried("models", server.models, lambda found: ", ".join(found[:6]))
    why = ""
    if not ask:
        why = "leave out --no-ask to send two short questions"
    elif login.ok is False:
        why = "there is no usable login"
    model = sidecar.model or next(iter(await server.models()), None) if models.ok else sidecar.model
    if not why and model is None:
        why = "no model is known; name one with -m"
    if why:
        return [models, *_left_out(QUESTIONS, why)]
    return [models, await _chat(server, str(model)), await _judge(server, str(model))]


async def _chat(server: CodexServer, model: str) -> Check:
    messages = [{"role": "user", "content": "Answer with the one word: pong"}]
    request = ChatRequest(model=model, messages=messages, timeout_s=ASK_S)
    return await _tried(
        "chat",
        lambda: server.complete(request),
        lambda answer: f"{model} said {answer.text[:80]!r}",
        good=lambda answer: bool(answer.text.strip()),
    )


async def _judge(server: CodexServer, model: str) -> Check:
    asked: Mapping[str, object] = {"name": "verdict", "schema": VERDICT, "strict": True}
    request = ChatRequest(
        model=model,
        messages=[{"role": "user", "content": JUDGE}],
        params={"response_format": {"type": "json_schema", "json_schema": asked}},
        timeout_s=ASK_S,
    )
    return await _tried(
        "JSON judge",
        lambda: server.complete(request),
        lambda answer: f"{model} said {answer.text[:80]}",
        good=lambda answer: json.loads(answer.text) == {"best": "A"},
        wrong="it fits the schema, but it is the wrong verdict: this model should not judge",
    )


async def _tried(
    name: str,
    work: Callable[[], Awaitable[Any]],
    tell: Callable[[Any], str],
    *,
    good: Callable[[Any], bool] = bool,
    wrong: str = "nothing came",
) -> Check:
    try:
        found = await work()
    except ScillmError as error:
        return Check(name=name, ok=False, detail=error.message, fix="the detail says what failed")
    if good(found):
        return Check(name=name, ok=True, detail=tell(found))
    return Check(name=name, ok=False, detail=tell(found), fix=wrong)
