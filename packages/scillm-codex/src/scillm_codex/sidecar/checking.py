"""Whether an answer is the JSON that was asked for: Codex itself does not check it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scillm.errors import JsonTextError, SchemaError
from scillm.structured import check, extract_json
from scillm.structured.jsontext import json_part

if TYPE_CHECKING:
    from scillm_codex.sidecar.plan import Plan


def problem_of_answer(text: str, plan: Plan) -> tuple[str, SchemaError | JsonTextError | None]:
    """The JSON in `text`, and what is wrong with it, if anything."""
    try:
        found = extract_json(
            text, root="object" if plan.json_object else "any", allow_truncated=False
        )
        if plan.schema is not None:
            check(found.value, plan.schema)
    except (JsonTextError, SchemaError) as error:
        return text, error
    return json_part(found, text), None
