"""What an answer holds: its JSON, and whether that fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import frozen

from scillm.errors import JsonTextError
from scillm.records import evolve
from scillm.structured.jsontext import JsonText, extract_json, json_part
from scillm.structured.strictjson import refusal, whole_document

if TYPE_CHECKING:
    from scillm.models import ChatMessage, Choice, Completion
    from scillm.structured.jsontext import Root


def read_json(text: str, *, root: Root, sanitize: bool | None) -> JsonText:
    """The JSON document of an answer, whole or not at all; errors as `extract_json`.

    `sanitize` None takes it out of fences, prose and think blocks; True lets json-repair mend its
    notation too; False wants the answer to be JSON and nothing else.
    """
    if sanitize is False:
        try:
            whole_document(text)
        except ValueError as error:
            raise refusal("broken", f"The answer is not JSON: {error}.", text) from None
    return extract_json(text, root=root, allow_truncated=False, repair=sanitize is True)


def sanitized(completion: Completion) -> tuple[Completion, bool]:
    """`completion` with its text replaced by the JSON in it, and whether anything changed.

    For calls that set `auto_json_sanitize`. Valid JSON is left alone. So is a text without one
    trustworthy document: the second value is then False too.
    """
    text = completion.text
    try:
        found = read_json(text, root="any", sanitize=True)
    except JsonTextError:
        return completion, False
    part = json_part(found, text)
    changed = part != text.strip()
    return (with_text(completion, part) if changed else completion), changed


def with_text(completion: Completion, text: str) -> Completion:
    """`completion` whose first choice says `text`."""
    first, *others = completion.choices
    message: ChatMessage = evolve(first.message, content=text)
    choice: Choice = evolve(first, message=message)
    changed: Completion = evolve(completion, choices=[choice, *others])
    return changed


def refusal_of(completion: Completion) -> str:
    """The words with which the model refuses, where it said nothing else."""
    if not completion.choices or completion.text:
        return ""
    return completion.choices[0].message.refusal or ""


def tool_calls_only(completion: Completion) -> bool:
    """Whether the model called tools instead of answering."""
    if not completion.choices or completion.text:
        return False
    message: Any = completion.choices[0].message
    return bool(message.tool_calls or message.function_call)


@frozen(kw_only=True)
class Reading:
    """An answer that fits: its document, and the value made of it."""

    found: JsonText
    value: Any
