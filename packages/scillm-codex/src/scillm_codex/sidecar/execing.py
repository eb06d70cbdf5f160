"""The fallback: one `codex exec --json` process per request. No deltas, no client tools."""

from __future__ import annotations

import json
import logging
import secrets
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from attrs import frozen
from scillm.errors import APITimeoutError, EngineError, SchemaError, UnsupportedParamError
from scillm.models import ChatMessage, Choice, Completion, Usage

from scillm_codex.held import end_held, start_held
from scillm_codex.sidecar.checking import problem_of_answer
from scillm_codex.sidecar.failures import error_of
from scillm_codex.sidecar.lines import Lines
from scillm_codex.sidecar.plan import plan_of

if TYPE_CHECKING:
    from anyio.abc import ByteReceiveStream
    from scillm.errors import ProviderError
    from scillm.records import ChatRequest, Json

    from scillm_codex.sidecar.child import Command
    from scillm_codex.sidecar.plan import Place, Plan

log = logging.getLogger("scillm.codex")

ERROR_CHARS = 2000


@frozen(kw_only=True)
class Told:
    """What the events of one run said."""

    text: str = ""
    thoughts: str = ""
    usage: Usage | None = None
    error: ProviderError | None = None
    completed: bool = False


def told(lines: Sequence[bytes]) -> Told:
    """The answer in the lines of `codex exec --json`; the last agent message is the answer."""
    text, thoughts, usage, failed, completed = "", [], None, None, False
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            log.warning("Codex wrote a line that is not JSON; it was left out: %r", line[:200])
            continue
        kind = event.get("type") if isinstance(event, dict) else None
        item = event.get("item") or {} if kind == "item.completed" else {}
        if item.get("type") == "agent_message":
            text = str(item.get("text") or "")
        elif item.get("type") == "reasoning":
            thoughts.append(str(item.get("text") or ""))
        elif kind == "turn.completed":
            completed, usage = True, _usage(event.get("usage"))
        elif kind == "turn.failed":
            failed = error_of(event.get("error") or {})
    return Told(
        text=text,
        thoughts="\n\n".join(thoughts),
        usage=usage,
        error=failed,
        completed=completed,
    )


def _usage(used: Json) -> Usage | None:
    if not isinstance(used, Mapping):
        return None
    prompt, completion = int(used.get("input_tokens") or 0), int(used.get("output_tokens") or 0)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details={"cached_tokens": int(used.get("cached_input_tokens") or 0)},
        completion_tokens_details={
            "reasoning_tokens": int(used.get("reasoning_output_tokens") or 0)
        },
    )


def prompt_of(plan: Plan) -> str:
    """The question as one text; `UnsupportedParamError` for what `exec` has no way to take."""
    if plan.tools:
        raise UnsupportedParamError(
            "`codex exec` cannot offer a client's tools; use the sidecar without --exec.",
            param="tools",
        )
    if plan.choices > 1 or plan.stops:
        raise UnsupportedParamError(
            "`codex exec` gives one whole answer; leave out n and stop.",
            param="n" if plan.choices > 1 else "stop",
        )
    lines = [plan.thread.get("baseInstructions") or plan.thread.get("developerInstructions") or ""]
    lines += [_line(item) for item in plan.history]
    for part in plan.turn["input"]:
        if part["type"] != "text":
            raise UnsupportedParamError("`codex exec` takes no images here.", param="messages")
        lines.append(part["text"])
    return "\n\n".join(line for line in lines if line)


def _line(item: Mapping[str, Json]) -> str:
    if item["type"] != "message":
        raise UnsupportedParamError("`codex exec` takes no tool messages.", param="messages")
    texts = []
    for part in item["content"]:
        if "text" not in part:
            raise UnsupportedParamError("`codex exec` takes no images here.", param="messages")
        texts.append(part["text"])
    return f"{item['role']}: {''.join(texts)}"


class CodexExec:
    """Answers with a process per request."""

    def __init__(self, command: Command, place: Place, *, turn_s: float) -> None:
        self._command = command
        self._place = place
        self._turn_s = turn_s

    async def complete(self, request: ChatRequest, /) -> Completion:
        """Answer `request`; raises what Codex said went wrong."""
        plan = plan_of(request, self._place)
        prompt = prompt_of(plan)
        limit_s = min(self._turn_s, request.timeout_s)
        result: Told | None = None
        with anyio.move_on_after(limit_s):
            result = await self._run(plan, prompt)
        if result is None:
            raise APITimeoutError(
                f"codex exec had not answered after {limit_s:g} s and was ended.",
                provider="codex",
                model=request.model,
                status_code=504,
            )
        text = result.text
        if plan.checked:
            text, problem = problem_of_answer(text, plan)
            if problem is not None:
                raise SchemaError(problem.message, text=result.text)
        message = ChatMessage(content=text, reasoning_content=result.thoughts or None)
        return Completion(
            id=f"chatcmpl-{secrets.token_hex(12)}",
            created=int(time.time()),
            model=request.model,
            choices=[Choice(message=message, finish_reason="stop")],
            usage=result.usage,
            additional_kwargs={"codex": {"ignored_params": list(plan.ignored)}},
        )

    async def _run(self, plan: Plan, prompt: str) -> Told:
        argv = [self._command.argv[0], "exec", "--json", "--ephemeral", "--skip-git-repo-check"]
        argv += ["-m", plan.model, "-C", str(self._command.cwd)]
        if "effort" in plan.turn:
            argv += ["-c", f"model_reasoning_effort={json.dumps(plan.turn['effort'])}"]
        with tempfile.TemporaryDirectory(prefix="scillm-codex-") as folder:
            if plan.schema is not None:
                schema = Path(folder) / "schema.json"
                schema.write_text(json.dumps(plan.schema), encoding="utf-8")
                argv += ["--output-schema", str(schema)]
            lines, errors, code = await _finished([*argv, "-"], self._command, prompt.encode())
        result = told(lines)
        if result.error is not None:
            raise result.error
        if code or not result.completed:
            said = b"\n".join(errors).decode("utf-8", "replace")[-ERROR_CHARS:]
            raise EngineError(f"codex exec ended with {code}: {said or 'it said nothing'}")
        return result


async def _finished(
    argv: Sequence[str], command: Command, stdin: bytes
) -> tuple[list[bytes], list[bytes], int]:
    process = await start_held(argv, env=command.env, cwd=command.cwd)
    out: list[bytes] = []
    err: list[bytes] = []
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        async with anyio.create_task_group() as group:
            group.start_soon(_collect, process.stdout, out)
            group.start_soon(_collect, process.stderr, err)
            with suppress(anyio.BrokenResourceError, OSError):
                await process.stdin.send(stdin)
            await process.stdin.aclose()
        code = await process.wait()
    finally:
        await end_held(process)
    return out, err, code


async def _collect(stream: ByteReceiveStream, found: list[bytes]) -> None:
    lines = Lines()
    async for piece in stream:
        found += lines.feed(piece)
    found += [line for line in (lines.rest(),) if line]
