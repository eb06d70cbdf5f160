"""Echo mode: answers without Codex, marked as echo everywhere, for trying out a client."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

from scillm.errors import UsageError
from scillm.models import ChatMessage, Choice, Completion, Usage

if TYPE_CHECKING:
    from scillm.records import ChatRequest, Message

MODEL = "codex-echo"
HEADERS = {"x-scillm-echo": "1"}


def refuse_beside_login(auth: Path | None, *, forced: bool) -> None:
    """Raise `UsageError` when there is a login and nobody insisted on echoes.

    Who has a login wants real answers; an echo taken for one spoils whatever is built on it.
    """
    if auth is not None and auth.exists() and not forced:
        raise UsageError(
            f"--echo answers without Codex, but there is a login at {auth}. Leave --echo out for "
            "real answers, or add --force-echo."
        )


class Echo:
    """Gives back the text of the last user message."""

    async def complete(self, request: ChatRequest, /) -> Completion:
        """The echo, whose model is `codex-echo` whatever was asked for."""
        said = [_text(message) for message in request.messages if message.get("role") == "user"]
        text = f"[echo] {said[-1] if said else ''}"
        words = sum(len(_text(message).split()) for message in request.messages)
        usage = Usage(
            prompt_tokens=words,
            completion_tokens=len(text.split()),
            total_tokens=words + len(text.split()),
        )
        choice = Choice(message=ChatMessage(content=text), finish_reason="stop")
        return Completion(
            id=f"chatcmpl-{secrets.token_hex(12)}",
            created=int(time.time()),
            model=MODEL,
            choices=[choice],
            usage=usage,
            extra={"echo": True},
        )


def _text(message: Message) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = [part.get("text") for part in content or () if isinstance(part, dict)]
    return "".join(part for part in parts if isinstance(part, str))
