"""A local Responses service for the real Codex CLI, as strict as OpenAI's own.

What it answers depends on the model's name, or on `script`. Shapes and checks: the Responses API
reference, and what Codex 0.169 was seen to send.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

KEY = "sk-upstream-0123456789abcdef"
KNOWN = frozenset({
    "background", "client_metadata", "conversation", "include", "input", "instructions",
    "max_output_tokens", "max_tool_calls", "metadata", "model", "parallel_tool_calls",
    "previous_response_id", "prompt", "prompt_cache_key", "prompt_cache_retention", "reasoning",
    "safety_identifier", "service_tier", "store", "stream", "stream_options", "temperature", "text",
    "tool_choice", "tools", "top_logprobs", "top_p", "truncation", "user",
})  # fmt: skip
ITEMS = frozenset({
    "message", "function_call", "function_call_output", "reasoning", "custom_tool_call",
    "additional_tools", "custom_tool_call_output", "local_shell_call", "local_shell_call_output",
    "web_search_call",
})  # fmt: skip
PARTS = {"user": {"input_text", "input_image"}, "developer": {"input_text"},
         "system": {"input_text"}, "assistant": {"output_text", "refusal"}}  # fmt: skip
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
USAGE = {
    "input_tokens": 100, "input_tokens_details": {"cached_tokens": 40}, "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 120,
}  # fmt: skip
ERRORS: Mapping[int, tuple[str, str, str | None]] = {
    400: ("invalid_request_error", "Unsupported value: 'reasoning.effort'.", "unsupported_value"),
    401: ("invalid_request_error", "Incorrect API key provided: sk-fake.", "invalid_api_key"),
    403: ("permission_error", "Project does not have access to model.", "model_not_found"),
    404: ("invalid_request_error", "The model does not exist.", "model_not_found"),
    429: ("rate_limit_error", "Rate limit reached. Please try again in 1s.", "rate_limit_exceeded"),
    500: ("server_error", "The server had an error", None),
    503: ("server_error", "The server had an error", None),
}
_ids = itertools.count(1)


class RefusedError(Exception):
    """A request the real service would refuse with 400."""


def new_id(prefix: str) -> str:
    return f"{prefix}_{next(_ids):024x}"


def message(text: str, *, phase: str | None = None) -> dict[str, Any]:
    """A finished assistant message."""
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    item = {"type": "message", "id": new_id("msg"), "role": "assistant", "status": "completed",
            "content": [part]}  # fmt: skip
    return item if phase is None else {**item, "phase": phase}


def call(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A finished function call."""
    return {
        "type": "function_call",
        "id": new_id("fc"),
        "status": "completed",
        "call_id": new_id("call"),
        "name": name,
        "arguments": json.dumps(arguments),
    }


def reasoning(text: str) -> dict[str, Any]:
    """A reasoning item with a summary."""
    return {"type": "reasoning", "id": new_id("rs"), "encrypted_content": "AAAA",
            "summary": [{"type": "summary_text", "text": text}]}  # fmt: skip


def check(body: Any) -> None:
    """Raise `RefusedError` for the first thing the real service would refuse."""
    if not isinstance(body, dict):
        raise RefusedError("The body must be an object.")
    unknown = sorted(set(body) - KNOWN)
    if unknown:
        raise RefusedError(f"Unknown parameter: '{unknown[0]}'.")
    if not isinstance(body.get("model"), str) or not isinstance(body.get("input"), list):
        raise RefusedError("Missing required parameter: 'model' or 'input'.")
    if body.get("stream") is not True:
        raise RefusedError("Codex streams; 'stream' must be true.")
    names: list[str] = []
    for tool in body.get("tools") or []:
        names += _check_tool(tool)
    doubles = {name for name in names if names.count(name) > 1}
    if doubles:
        raise RefusedError(f"Tool names must be unique: {sorted(doubles)}.")
    _check_items(body["input"])


def _check_tool(tool: Any) -> list[str]:
    kind = tool.get("type")
    if kind == "namespace":
        return [f"{tool['name']}.{name}" for inner in tool["tools"] for name in _check_tool(inner)]
    if kind not in {"function", "custom"}:
        return [str(kind)]
    if not NAME.fullmatch(str(tool.get("name"))):
        raise RefusedError(f"Invalid 'tools[].name': {tool.get('name')!r}.")
    if kind == "function" and not isinstance(tool.get("parameters"), dict):
        raise RefusedError("A function needs 'parameters'.")
    return [tool["name"]]


def _check_items(items: Sequence[Any]) -> None:
    open_calls: set[str] = set()
    for place, item in enumerate(items):
        kind = item.get("type", "message")
        if kind not in ITEMS:
            raise RefusedError(f"Invalid value for 'input[{place}].type': {kind!r}.")
        if kind == "message":
            _check_message(place, item)
        elif kind in {"function_call", "custom_tool_call"}:
            open_calls.add(item["call_id"])
        elif kind in {"function_call_output", "custom_tool_call_output"}:
            if item.get("call_id") not in open_calls:
                raise RefusedError(f"No tool call found for output {item.get('call_id')!r}.")
            open_calls.discard(item["call_id"])
    if open_calls:
        raise RefusedError(f"No tool output found for function call {sorted(open_calls)[0]}.")


def _check_message(place: int, item: Mapping[str, Any]) -> None:
    role, content = item.get("role"), item.get("content")
    if role not in PARTS:
        raise RefusedError(f"Invalid value for 'input[{place}].role': {role!r}.")
    if isinstance(content, str):
        return
    for part in content or []:
        if part.get("type") not in PARTS[role]:
            raise RefusedError(f"Invalid part {part.get('type')!r} of role {role!r}.")


def user_texts(body: Mapping[str, Any]) -> list[str]:
    """The texts of the user's messages."""
    return [
        "".join(part.get("text", "") for part in item["content"])
        for item in body["input"]
        if item.get("type") == "message" and item["role"] == "user"
    ]


def outputs(body: Mapping[str, Any]) -> list[str]:
    """The tool outputs after the user's last message."""
    found: list[str] = []
    for item in body["input"]:
        if item.get("type") == "message" and item["role"] == "user":
            found = []
        elif item["type"].endswith("_output"):
            out = item["output"]
            found.append(out if isinstance(out, str) else json.dumps(out))
    return found


def tools_of(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Every tool of a request: its own, and those in an item, with namespaces opened."""
    given = list(body.get("tools") or [])
    for item in body["input"]:
        given += item["tools"] if item.get("type") == "additional_tools" else []
    found: list[Mapping[str, Any]] = []
    for tool in given:
        found += tool["tools"] if tool["type"] == "namespace" else [tool]
    return found


def sample(schema: Mapping[str, Any]) -> Any:
    """A value that fits a plain schema."""
    kind = schema.get("type")
    if "enum" in schema:
        return schema["enum"][0]
    if kind == "object":
        return {name: sample(inner) for name, inner in schema.get("properties", {}).items()}
    if kind == "array":
        return [sample(schema.get("items", {}))]
    return {"integer": 1, "number": 1.5, "boolean": True, "null": None}.get(str(kind), "text")


class CodexService:
    """The service. Remembers every request in `seen`, and how many run and were cut off."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.heads: list[dict[str, str]] = []
        self.refused: list[str] = []
        self.cut_off = 0
        self.running = 0
        self.counts: dict[str, int] = {}
        self.lock = threading.Lock()
        self.script: Callable[[Mapping[str, Any]], Sequence[Mapping[str, Any]]] | None = None
        service = self

        class Handler(_Handler):
            owner = service

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"

    @contextmanager
    def running_here(self) -> Iterator[CodexService]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def items(self, body: Mapping[str, Any], scenario: str) -> Sequence[Mapping[str, Any]]:
        """The output items of an answer."""
        if self.script is not None:
            return self.script(body)
        after, tools = outputs(body), tools_of(body)
        ours = [t for t in tools if t.get("type") == "function" and t["name"].startswith("my_")]
        said = (user_texts(body) or [""])[-1]
        if scenario == "json" or (body.get("text") or {}).get("format"):
            schema = ((body.get("text") or {}).get("format") or {}).get("schema") or {}
            return [message(json.dumps(sample(schema)))]
        if after:
            return [message("tools said: " + " | ".join(after))]
        if scenario == "tool" and ours:
            return [call(ours[0]["name"], sample(ours[0]["parameters"]))]
        if scenario == "tools" and ours:
            return [call(tool["name"], sample(tool["parameters"])) for tool in ours]
        if scenario == "reason":
            return [reasoning("**Thinking** about it"), message("echo: " + said)]
        if scenario == "phases":
            return [message("Let me look.", phase="commentary"),
                    message("echo: " + said, phase="final_answer")]  # fmt: skip
        return [message("echo: " + said)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: CodexService
    sequence = 0

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        rows = [{"id": "fake-plain", "object": "model", "created": 1, "owned_by": "fake"}]
        self._json(200, {"object": "list", "data": rows, "models": []})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers.get("content-encoding") == "zstd":
            self._problem(415, "invalid_request_error", "zstd is not spoken here", None)
            return
        try:
            body = json.loads(raw)
        except ValueError:
            self._problem(400, "invalid_request_error", "not JSON", None)
            return
        heads = {name.lower(): value for name, value in self.headers.items()}
        with self.owner.lock:
            self.owner.seen.append(body)
            self.owner.heads.append(heads)
        if heads.get("authorization") != f"Bearer {KEY}":
            self._problem(401, *ERRORS[401])
            return
        if not self.path.split("?")[0].endswith("/responses"):
            self._problem(404, "invalid_request_error", f"Unknown path {self.path}", None)
            return
        try:
            check(body)
        except RefusedError as error:
            self.owner.refused.append(str(error))
            self._problem(400, "invalid_request_error", str(error), None)
            return
        self._answer(body)

    def _answer(self, body: Mapping[str, Any]) -> None:
        scenario = str(body["model"]).removeprefix("fake-")
        with self.owner.lock:
            count = self.owner.counts[scenario] = self.owner.counts.get(scenario, 0) + 1
            self.owner.running += 1
        try:
            if scenario.isdigit():
                code = int(scenario)
                head = {"retry-after": "1"} if code in (429, 503) else {}
                self._problem(code, *ERRORS[code], **head)
            elif scenario == "429once" and count == 1:
                self._problem(429, *ERRORS[429], **{"retry-after": "1"})
            else:
                self._stream(body, scenario)
        except OSError:
            self.owner.cut_off += 1
            self.close_connection = True
        finally:
            with self.owner.lock:
                self.owner.running -= 1

    def _stream(self, body: Mapping[str, Any], scenario: str) -> None:
        self.sequence = 0
        self.send_response(200)
        for name, value in (("content-type", "text/event-stream"), ("connection", "close")):
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        head = {"id": new_id("resp"), "object": "response", "created_at": int(time.time()),
                "status": "in_progress", "model": body["model"], "output": []}  # fmt: skip
        self._event("response.created", response=head)
        codes = {
            "ratelimitsse": (
                "rate_limit_exceeded",
                "Rate limit reached. Please try again in 1.2s.",
            ),
            "ctx": ("context_length_exceeded", "Your input exceeds the context window."),
        }
        if scenario in codes:
            code, text = codes[scenario]
            failed = {**head, "status": "failed", "error": {"code": code, "message": text}}
            self._event("response.failed", response=failed)
            return
        if scenario == "stall":
            self._until_left(30.0)
            return
        items = list(self.owner.items(body, scenario))
        for place, item in enumerate(items):
            self._item(place, item, scenario)
            if scenario == "drop":
                return
        done = {**head, "status": "completed", "output": items, "usage": USAGE}
        self._event("response.completed", response=done)

    def _until_left(self, limit_s: float) -> None:
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            time.sleep(0.05)
            self.wfile.write(b": waiting\n\n")
            self.wfile.flush()

    def _item(self, place: int, item: Mapping[str, Any], scenario: str) -> None:
        begun = {**item, "status": "in_progress"} if "status" in item else dict(item)
        if item["type"] == "message":
            begun["content"] = []
        self._event("response.output_item.added", output_index=place, item=begun)
        if item["type"] == "message":
            self._text(place, item, scenario)
            if scenario == "drop":
                return
        self._event("response.output_item.done", output_index=place, item=item)

    def _text(self, place: int, item: Mapping[str, Any], scenario: str) -> None:
        part = item["content"][0]
        text, where = part["text"], {"item_id": item["id"], "output_index": place}
        empty = {"type": "output_text", "text": "", "annotations": []}
        self._event("response.content_part.added", **where, content_index=0, part=empty)
        step = 1 if scenario == "slow" else max(1, len(text) // 8)
        for start in range(0, len(text), step):
            piece = text[start : start + step]
            self._event("response.output_text.delta", **where, content_index=0, delta=piece)
            if scenario == "slow":
                time.sleep(0.05)
            if scenario == "drop":
                return
        self._event("response.output_text.done", **where, content_index=0, text=text)
        self._event("response.content_part.done", **where, content_index=0, part=part)

    def _event(self, kind: str, **fields: Any) -> None:
        data = json.dumps({"type": kind, "sequence_number": self.sequence, **fields})
        self.sequence += 1
        self.wfile.write(f"event: {kind}\ndata: {data}\n\n".encode())
        self.wfile.flush()

    def _problem(self, status: int, kind: str, text: str, code: str | None, **head: str) -> None:
        error = {"message": text, "type": kind, "param": None, "code": code}
        self._json(status, {"error": error}, **head)

    def _json(self, status: int, document: Any, **head: str) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **head}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
