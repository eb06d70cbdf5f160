"""Environment to frozen settings: the only place that reads `os.environ`, and only when asked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen

from scillm.errors import SettingsError
from scillm.plugins.core_settings import CORE_SETTINGS
from scillm.plugins.registry import switch_name

if TYPE_CHECKING:
    from scillm.records import Json, Setting

TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"0", "false", "no", "off"})

SWITCHES = ("SCILLM_ENABLE_", "LITELLM_ENABLE_")
"""Prefixes of per-plugin switches: SCILLM_ENABLE_CODEWORLD=0 leaves the plugin `codeworld` out."""


@frozen(kw_only=True)
class Resolved:
    """A setting's value and where it came from: variable names, or `default`."""

    setting: Setting
    value: Json = field(repr=False)
    source: str

    def shown(self) -> Json:
        """The value as a person may see it; a set secret is masked."""
        if self.setting.secret and self.value is not None:
            return "***"
        return str(self.value) if isinstance(self.value, Path) else self.value


class Settings(Mapping[str, Any]):
    """Values by setting name, frozen at the moment of `load`."""

    def __init__(self, resolved: Iterable[Resolved]) -> None:
        self._resolved = {row.setting.name: row for row in resolved}

    def __getitem__(self, name: str) -> Any:
        return self._resolved[name].value

    def __iter__(self) -> Iterator[str]:
        return iter(self._resolved)

    def __len__(self) -> int:
        return len(self._resolved)

    def rows(self) -> list[Resolved]:
        """Every setting with its value and source."""
        return list(self._resolved.values())

    def secrets(self) -> tuple[str, ...]:
        """Every secret value that is set."""
        return tuple(
            str(row.value) for row in self._resolved.values() if row.setting.secret and row.value
        )


def load(environ: Mapping[str, str] | None = None, *, more: Iterable[Setting] = ()) -> Settings:
    """Read the core's settings and `more` from `environ` (default: the process environment).

    An empty variable counts as not set. Raises `SettingsError` naming the variable, what was
    wanted and what came; a secret's value is not repeated.
    """
    source = os.environ if environ is None else environ
    rows = []
    for setting in (*CORE_SETTINGS, *more):
        resolved = resolve(setting, source)
        if setting.name == "plugins_disable":
            resolved = with_switches(resolved, source)
        rows.append(resolved)
    return Settings(rows)


def left_out(environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """`plugins_disable` alone: it can be read even while another setting is wrong."""
    source = os.environ if environ is None else environ
    setting = next(row for row in CORE_SETTINGS if row.name == "plugins_disable")
    off: tuple[str, ...] = with_switches(resolve(setting, source), source).value
    return off


def read(name: str, environ: Mapping[str, str] | None = None, *, default: Json) -> Json:
    """One core setting alone, with a default of the caller's; others may be wrong meanwhile."""
    source = os.environ if environ is None else environ
    setting = next(row for row in CORE_SETTINGS if row.name == name)
    return resolve(evolve(setting, default=default), source).value


def with_switches(resolved: Resolved, environ: Mapping[str, str]) -> Resolved:
    """`plugins_disable` together with the plugins a SCILLM_ENABLE_X=0 variable leaves out."""
    switches = switches_off(environ)
    names = (*map(switch_name, resolved.value), *switches)
    named = () if resolved.source == "default" else (resolved.source,)
    source = ", ".join((*named, *switches.values())) or resolved.source
    return evolve(resolved, value=tuple(dict.fromkeys(names)), source=source)


def resolve(setting: Setting, environ: Mapping[str, str]) -> Resolved:
    """The first variable of `setting.env` that is set, converted; otherwise the default."""
    for variable in setting.env:
        text = environ.get(variable, "").strip()
        if text:
            return Resolved(
                setting=setting, value=converted(setting, variable, text), source=variable
            )
    default = setting.default
    if setting.kind == "path" and default is not None:
        default = at_home(str(default), setting.env[0] if setting.env else setting.name)
    return Resolved(setting=setting, value=default, source="default")


def converted(setting: Setting, variable: str, text: str) -> Json:
    """`text` as the setting's kind, or `SettingsError`."""
    if setting.kind == "path":
        return at_home(text, variable)
    try:
        return _CONVERTERS[setting.kind](text)
    except ValueError:
        came = "a value that is not shown" if setting.secret else repr(text)
        raise SettingsError(
            f"{variable} must be {_WANTED[setting.kind]}, but is {came}. Correct or unset it."
        ) from None


def at_home(text: str, variable: str) -> Path:
    """`text` as a path, `~` as the user's home; `SettingsError` where the user has none."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # no HOME, and nobody of this number among the system's users
        raise SettingsError(
            f"{variable} is to be {text}, but this user has no home folder to put for the ~. Set "
            f"HOME, or {variable} to a path that does not begin with ~."
        ) from None


def switches_off(environ: Mapping[str, str]) -> dict[str, str]:
    """Plugins that a SCILLM_ENABLE_X=0 variable leaves out, each with that variable."""
    return {
        switch_name(variable.removeprefix(prefix)): variable
        for variable, text in sorted(environ.items())
        for prefix in SWITCHES
        if variable.startswith(prefix) and text.strip().lower() in FALSE
    }


def _as_bool(text: str) -> bool:
    word = text.lower()
    if word in TRUE or word in FALSE:
        return word in TRUE
    raise ValueError(text)


def _as_float(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise ValueError(text)
    return number


def _as_names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


_CONVERTERS: Mapping[str, Any] = {
    "str": str,
    "int": int,
    "float": _as_float,
    "bool": _as_bool,
    "names": _as_names,
}
_WANTED: Mapping[str, str] = {
    "str": "text",
    "int": "a whole number",
    "float": "a number, 0 or more",
    "bool": "1 or 0 (true, false, yes, no, on, off)",
    "names": "names separated by commas",
}
