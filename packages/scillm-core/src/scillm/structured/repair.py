"""The door to json-repair, an optional library that guesses what broken JSON was meant to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scillm.structured.strictjson import refusal, too_deep

if TYPE_CHECKING:
    from scillm.records import Json

INSTALL = "pip install 'scillm-core[json]'"


def guess(text: str) -> tuple[Json, tuple[str, ...]]:
    """What json-repair makes of `text`, and what it says it did; the guess is not checked.

    Raises `JsonTextError` of kind `broken` without the library or a guess, and `too_deep`.
    """
    try:
        import json_repair
    except ImportError:
        raise refusal(
            "broken", f"The JSON is broken; {INSTALL} lets json-repair try to mend it.", text
        ) from None
    try:
        answer = json_repair.loads(text, skip_json_loads=True, logging=True)
    except RecursionError:
        raise too_deep(text) from None
    except ValueError as error:
        raise refusal("broken", f"The JSON is broken beyond repair: {error}.", text) from None
    # Without anything to say, some versions return the bare value.
    value, log = answer if isinstance(answer, tuple) else (answer, [])
    return value, tuple(str(entry.get("text", entry)) for entry in log)
