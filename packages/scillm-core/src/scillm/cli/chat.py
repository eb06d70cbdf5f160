"""`scillm chat`: one question to one model, answered on stdout."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING

import click

from scillm.cli import output
from scillm.cli.installation import prints_to_stderr
from scillm.errors import UsageError
from scillm.plugins.settings import load
from scillm.records import Setting

if TYPE_CHECKING:
    from scillm.models import Completion, CompletionChunk
    from scillm.records import Json

FROM_STDIN = "-"

WHOLE = (None, "stop")
"""Finish reasons of an answer that is not cut off and asks for nothing."""


@click.command("chat")
@click.argument("text", required=False)
@click.option("-m", "--model", help="The model, for example `openai/gpt-4o-mini` or `echo/any`.")
@click.option("--system", help="A system message that goes before the question.")
@click.option("--stream", is_flag=True, help="Print the answer as it arrives.")
@click.option("--api-base", help="Base URL of the service.")
@click.option(
    "--api-key-env", metavar="NAME", help="Environment variable that holds the key for it."
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds one attempt may take.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --stream, one per line.")
def command(
    text: str | None,
    model: str | None,
    system: str | None,
    stream: bool,
    api_base: str | None,
    api_key_env: str | None,
    timeout_s: float | None,
    as_json: bool,
) -> None:
    """Ask a model one question and print the answer.

    TEXT is the question; `-`, or no TEXT when something is piped in, reads it from standard input.
    """
    question = question_from(text)
    call: dict[str, Json] = {
        "model": model or default_model(),
        "messages": messages(question, system),
        "api_base": api_base,
        "api_key": key_from(api_key_env) if api_key_env else None,
        "timeout": timeout_s,
    }
    given = {name: value for name, value in call.items() if value is not None}
    if stream:
        stream_answer(given, as_json=as_json)
    else:
        whole_answer(given, as_json=as_json)


def question_from(text: str | None) -> str:
    """The question itself, from the command line or from standard input."""
    if text is None and (sys.stdin is None or sys.stdin.isatty()):
        raise UsageError('No question given: scillm chat -m MODEL "…", or pipe it in.')
    question = text if text is not None and text != FROM_STDIN else piped_text()
    if not question or not question.strip():
        raise UsageError("The question is empty. Give a text, or pipe one in.")
    return question


def piped_text() -> str:
    """All of standard input, which must be UTF-8."""
    if sys.stdin is None:
        return ""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="strict")
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise UsageError(
            f"The question must be UTF-8 text, but standard input has the byte "
            f"0x{error.object[error.start]:02x} at {error.start}. Convert it first."
        ) from error


def messages(question: str, system: str | None) -> list[dict[str, str]]:
    """The conversation that is sent."""
    before = [] if system is None else [{"role": "system", "content": system}]
    return [*before, {"role": "user", "content": question}]


def default_model() -> str:
    """The model of the settings; `UsageError` when there is none."""
    model = load()["default_model"]
    if not model:
        raise UsageError("No model given. Name one with -m MODEL, or set SCILLM_DEFAULT_MODEL.")
    return str(model)


def key_from(variable: str) -> str:
    """The key in an environment variable; `UsageError` when it is not set."""
    wanted = Setting(name="chat_key", env=(variable,), doc="--api-key-env", secret=True)
    key = load(more=[wanted])["chat_key"]
    if not key:
        raise UsageError(
            f"--api-key-env names {variable}, but that variable is not set. Set it, or leave the "
            "option out."
        )
    return str(key)


def whole_answer(call: dict[str, Json], *, as_json: bool) -> None:
    """Ask, wait, and print the answer."""
    from scillm.api import completion

    with output.busy(f"waiting for {call['model']}"), prints_to_stderr():
        answer = completion(**call)
    if as_json:
        output.document({**answer.to_dict(), "scillm": dict(answer.scillm_meta)})
        return
    output.line(answer.text)
    tell_rest(answer)


def stream_answer(call: dict[str, Json], *, as_json: bool) -> None:
    """Ask, and print the pieces as they arrive."""
    from scillm.api import completion

    with prints_to_stderr():
        stream = completion(**call, stream=True)
    with stream as chunks:
        if as_json:
            for chunk in chunks:
                output.line(json.dumps(chunk.to_dict(), ensure_ascii=False))
            return
        try:
            for chunk in chunks:
                output.line(piece(chunk), end="")
        finally:
            # Also when the stream breaks: what is said then starts on a line of its own.
            output.line("")
        tell_rest(chunks.completion)


def piece(chunk: CompletionChunk) -> str:
    """The text a chunk adds to the first answer."""
    contents = [choice.delta.content for choice in chunk.choices if choice.index == 0]
    return "".join(text_of(content) for content in contents)


def text_of(content: Json) -> str:
    """The text in a delta's content: a string, a list of parts, or nothing."""
    parts = content if isinstance(content, list) else [{"text": content}]
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return "".join(text for text in texts if isinstance(text, str))


def tell_rest(answer: Completion) -> None:
    """Say on stderr what the text does not show: that it is cut, empty, refused or a tool call."""
    choice = answer.choices[0] if answer.choices else None
    if choice is None:
        output.note("The answer has no choices; --json shows what came.")
        return
    if choice.message.refusal:
        output.note(f"The model refused: {choice.message.refusal}")
    if choice.finish_reason not in WHOLE or not answer.text:
        output.note(
            f"The answer {'is not complete' if answer.text else 'has no text'} "
            f"(finish_reason is {choice.finish_reason!r}); --json shows all of it."
        )
