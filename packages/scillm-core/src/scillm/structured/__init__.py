"""Structured output: JSON from answers, schemas, types, and asking until an answer fits."""

from typing import TYPE_CHECKING, Any

from scillm.structured.jsontext import JsonText, clean_json_string, extract_json

if TYPE_CHECKING:
    from scillm.structured.loop import complete_json
    from scillm.structured.schema import check, compiled
    from scillm.structured.structuring import structure
    from scillm.structured.types import json_schema

_HOMES = {
    "check": "schema",
    "compiled": "schema",
    "complete_json": "loop",
    "json_schema": "types",
    "structure": "structuring",
}

__all__ = [
    "JsonText",
    "check",
    "clean_json_string",
    "compiled",
    "complete_json",
    "extract_json",
    "json_schema",
    "structure",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'scillm.structured' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"scillm.structured.{_HOMES[name]}"), name)
