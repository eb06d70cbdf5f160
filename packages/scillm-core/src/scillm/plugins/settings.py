"""Environment to frozen settings: the only place that reads `os.environ`, and only when asked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from scillm.errors import SettingsError
from scillm.plugins.registry import switch_name
from scillm.records import Json, Setting

TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"0", "false", "no", "off"})

CORE_SETTINGS: tuple[Setting, ...] = (
    Setting(
        name="default_model",
        env=(
            "SCILLM_DEFAULT_MODEL",
            "SCILLM_MODEL",
            "LITELLM_DEFAULT_MODEL",
            "LITELLM_MODEL",
            "DEFAULT_LITELLM_MODEL",
        ),
        doc="Model used when a call names none.",
    ),
    Setting(
        name="default_provider",
        env=("SCILLM_DEFAULT_PROVIDER",),
        doc="Provider used when neither the model nor the call names one.",
    ),
    Setting(
        name="openai_api_base",
        env=("OPENAI_BASE_URL", "OPENAI_API_BASE"),
        default="https://api.openai.com/v1",
        doc="Base URL of the provider `openai`.",
    ),
    Setting(
        name="openai_api_key",
        env=("OPENAI_API_KEY",),
        secret=True,
        doc="Key of the provider `openai`; sent to no other host than its base URL.",
    ),
    Setting(
        name="timeout_s",
        env=("SCILLM_TIMEOUT_S",),
        kind="float",
        default=600.0,
        doc="Seconds one attempt may take (for a stream: its longest silence).",
    ),
    Setting(
        name="connect_timeout_s",
        env=("SCILLM_CONNECT_TIMEOUT_S",),
        kind="float",
        default=10.0,
        doc="Seconds a connection may take to be established.",
    ),
    Setting(
        name="retry_enabled",
        env=("SCILLM_RETRY_ENABLED",),
        kind="bool",
        default=False,
        doc="Retry failed calls until the budget ends.",
    ),
    Setting(
        name="retry_max_attempts",
        env=("SCILLM_RETRY_MAX_ATTEMPTS",),
        kind="int",
        default=8,
        doc="Rounds through the deployments of a group, the first one included.",
    ),
    Setting(
        name="retry_time_budget_s",
        env=("SCILLM_RETRY_TIME_BUDGET_S",),
        kind="float",
        default=600.0,
        doc="Seconds a call with all its retries may take.",
    ),
    Setting(
        name="retry_base_s",
        env=("SCILLM_RETRY_BASE_S",),
        kind="float",
        default=5.0,
        doc="Ceiling of the first wait when the upstream announces none.",
    ),
    Setting(
        name="retry_max_s",
        env=("SCILLM_RETRY_MAX_S",),
        kind="float",
        default=120.0,
        doc="Ceiling of every wait that the upstream did not announce.",
    ),
    Setting(
        name="retry_jitter_pct",
        env=("SCILLM_RETRY_JITTER_PCT",),
        kind="float",
        default=0.25,
        doc="Share of an announced wait that is added to it at random.",
    ),
    Setting(
        name="retry_log_every",
        env=("SCILLM_RETRY_LOG_EVERY",),
        kind="int",
        default=1,
        doc="Log every n-th retry.",
    ),
    Setting(
        name="retry_meta",
        env=("SCILLM_RETRY_META",),
        kind="bool",
        default=False,
        doc='Stamp additional_kwargs["router"]["retries"].',
    ),
    Setting(
        name="json_sanitize",
        env=("SCILLM_JSON_SANITIZE",),
        kind="bool",
        default=False,
        doc="Mend the notation of JSON answers that are checked anyway (needs scillm-core[json]).",
    ),
    Setting(
        name="log_json",
        env=("SCILLM_LOG_JSON",),
        kind="bool",
        default=False,
        doc="Write a JSON line to stderr for every retry and every give-up.",
    ),
    Setting(
        name="rate_limit_qps",
        env=("SCILLM_RATE_LIMIT_QPS",),
        kind="float",
        doc="Calls per second that may start at one deployment; without it, no limit is assumed.",
    ),
    Setting(
        name="cooldown_429_s",
        env=("SCILLM_COOLDOWN_429_S",),
        kind="float",
        default=1.0,
        doc="Seconds of rest after a 429 that names none; doubles while refusals go on.",
    ),
    Setting(
        name="adaptive_pace",
        env=("SCILLM_ADAPTIVE_PACE",),
        kind="bool",
        doc="Slow down after refusals and speed up with success; by default where a rate is set.",
    ),
    Setting(
        name="max_concurrency",
        env=("SCILLM_MAX_CONCURRENCY",),
        kind="int",
        doc="Calls that may be in the air at one deployment; without it, any number.",
    ),
    Setting(
        name="bucket_rate",
        env=("SCILLM_BUCKET_RATE",),
        kind="float",
        default=3.0,
        doc="Tokens per second of `token_bucket_from_env`.",
    ),
    Setting(
        name="bucket_capacity",
        env=("SCILLM_BUCKET_CAPACITY",),
        kind="float",
        default=6.0,
        doc="Tokens that the bucket of `token_bucket_from_env` holds at most.",
    ),
    Setting(
        name="bucket_max_sleep_s",
        env=("SCILLM_BUCKET_MAX_SLEEP_S",),
        kind="float",
        default=2.0,
        doc="Longest single sleep of `token_bucket_from_env`; longer waits are slept in parts.",
    ),
    Setting(
        name="transport",
        env=("SCILLM_TRANSPORT",),
        default="httpx",
        doc="HTTP library: httpx, or aiohttp (faster; extra `aiohttp`, asyncio only).",
    ),
    Setting(
        name="http_proxy",
        env=("http_proxy", "HTTP_PROXY"),
        secret=True,
        doc="Proxy for http:// targets: http://[user:password@]host:port.",
    ),
    Setting(
        name="https_proxy",
        env=("https_proxy", "HTTPS_PROXY"),
        secret=True,
        doc="Proxy that https:// targets are tunnelled through: http://[user:password@]host:port.",
    ),
    Setting(
        name="no_proxy",
        env=("no_proxy", "NO_PROXY"),
        default="",
        doc="Targets reached without a proxy: hosts, .domains, host:port, or *; with commas.",
    ),
    Setting(
        name="ca_bundle",
        env=("SCILLM_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"),
        kind="path",
        doc="PEM file or folder of the certificate authorities to trust; default: certifi's.",
    ),
    Setting(
        name="runs_dir",
        env=("SCILLM_RUNS_DIR",),
        kind="path",
        default="~/.local/share/scillm/runs",
        doc="Folder of the run store.",
    ),
    Setting(
        name="plugins_disable",
        env=("SCILLM_PLUGINS_DISABLE",),
        kind="names",
        default=(),
        doc="Plugin or distribution names to leave out, separated by commas.",
    ),
    Setting(
        name="plugins_strict",
        env=("SCILLM_PLUGINS_STRICT",),
        kind="bool",
        default=False,
        doc="Raise when a hook plugin fails instead of logging it.",
    ),
)

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
        default = Path(default).expanduser()
    return Resolved(setting=setting, value=default, source="default")


def converted(setting: Setting, variable: str, text: str) -> Json:
    """`text` as the setting's kind, or `SettingsError`."""
    try:
        return _CONVERTERS[setting.kind](text)
    except ValueError:
        came = "a value that is not shown" if setting.secret else repr(text)
        raise SettingsError(
            f"{variable} must be {_WANTED[setting.kind]}, but is {came}. Correct or unset it."
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


def _as_path(text: str) -> Path:
    return Path(text).expanduser()


_CONVERTERS: Mapping[str, Any] = {
    "str": str,
    "int": int,
    "float": _as_float,
    "bool": _as_bool,
    "names": _as_names,
    "path": _as_path,
}
_WANTED: Mapping[str, str] = {
    "str": "text",
    "int": "a whole number",
    "float": "a number, 0 or more",
    "bool": "1 or 0 (true, false, yes, no, on, off)",
    "names": "names separated by commas",
    "path": "a path",
}
