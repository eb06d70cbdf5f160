"""Items from files: JSON or YAML documents of the shape {"items": […]}, and folders of them."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from scillm.errors import UsageError

if TYPE_CHECKING:
    from scillm.records import Json

JSON_SUFFIXES = frozenset({".json"})
YAML_SUFFIXES = frozenset({".yaml", ".yml"})


def read_items(paths: Iterable[Path]) -> list[Json]:
    """The items of all files in order; a folder stands for its files, sorted by name.

    Raises `UsageError` for a path that is missing, empty of items, or not of this shape.
    """
    return [item for path in paths for file in _files(path) for item in _items(file)]


def _files(path: Path) -> Sequence[Path]:
    if not path.is_dir():
        return [path]
    wanted = JSON_SUFFIXES | YAML_SUFFIXES
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in wanted)
    if not found:
        raise UsageError(f"The folder {path} has no file named *.json, *.yaml or *.yml.")
    return found


def _items(path: Path) -> list[Json]:
    document = _document(path)
    if not isinstance(document, dict) or not isinstance(document.get("items"), list):
        raise UsageError(f'{path} must hold {{"items": [...]}}, a list under the key `items`.')
    odd = sorted(str(key) for key in document if key != "items")
    if odd:
        raise UsageError(f"{path} has the unknown key {odd[0]!r} beside `items`; remove it.")
    if not document["items"]:
        raise UsageError(f"{path} has no items; give at least one.")
    return list(document["items"])


def _document(path: Path) -> Json:
    suffix = path.suffix.lower()
    if suffix not in JSON_SUFFIXES | YAML_SUFFIXES:
        raise UsageError(f"{path} must be named *.json, *.yaml or *.yml.")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8: {error.reason} at byte {error.start}.") from error
    try:
        if suffix in JSON_SUFFIXES:
            return json.loads(text, object_pairs_hook=_without_doubles)
        return yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader, stricter)
    except RecursionError as error:
        raise UsageError(f"{path} is nested too deeply.") from error
    except (ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{path} cannot be parsed: {error}") from error


def _without_doubles(pairs: Sequence[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [key for key, _ in pairs]
        double = next(key for key in names if names.count(key) > 1)
        raise ValueError(f"the key {double!r} comes twice in one object")
    return found


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a mapping with the same key twice, where PyYAML keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Json]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        double = next((key for key in names if names.count(key) > 1), None)
        if double is not None:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {double!r} comes twice in one mapping", node.start_mark
            )
        return super().construct_mapping(node, deep=deep)
