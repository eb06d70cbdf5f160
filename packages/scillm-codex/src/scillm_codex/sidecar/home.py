"""The sidecar's own CODEX_HOME: a generated config, the login by reference, a clean HOME."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from attrs import field, frozen
from scillm.errors import UsageError

from scillm_codex.sidecar.catalogue import plain_catalogue, read_catalogue

if TYPE_CHECKING:
    from scillm.records import Json

Profile: TypeAlias = Literal["chat", "agent"]
PROFILES: Sequence[Profile] = ("chat", "agent")

ALWAYS_OFF = (
    "unbounded_connection_retries",
    "shell_snapshot",
    "apps",
    "plugins",
    "remote_plugin",
    "tool_suggest",
    "hooks",
)
"""Features no sidecar wants: endless waiting, login shells, dialling out, the user's hooks."""
CHAT_OFF = (
    "shell_tool",
    "unified_exec",
    "view_image",
    "goals",
    "image_generation",
    "skill_search",
)
"""Features that read files, run commands, or make the prompt longer than the question."""
PASSED = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY",
          "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy")  # fmt: skip
"""Variables of ours that Codex sees; nothing else of our environment reaches it."""
WINDOW = 10_000_000
"""Tokens; Codex takes it down to the most that it knows the model to have."""
NEVER = 2**62
"""Tokens after which a chat is summarised: the question asked must be the question answered."""
CHAT: Mapping[str, Json] = {
    "sandbox_mode": "read-only",
    "web_search": "disabled",
    "include_environment_context": False,
    "include_permissions_instructions": False,
    "include_apps_instructions": False,
    "model_auto_compact_token_limit": NEVER,
    "model_context_window": WINDOW,
}
UPSTREAM = "scillm_upstream"
UPSTREAM_KEY = "SCILLM_CODEX_UPSTREAM_KEY"
LOCKED = {"read-only": "locked_read", "workspace-write": "locked_write"}
"""Our permission profile for each sandbox mode of the agent profile."""


@frozen(kw_only=True)
class Upstream:
    """A server with the Responses API, in place of OpenAI's own."""

    base_url: str
    api_key: str | None = field(default=None, repr=False)
    retries: int = 1
    idle_ms: int = 120_000


def config_toml(
    profile: Profile,
    *,
    upstream: Upstream | None = None,
    hidden: Sequence[Path] = (),
    shown: Sequence[Path] = (),
    model: str | None = None,
    catalogue: Path | None = None,
) -> str:
    """The config file of one profile.

    No command of the agent may read what is `hidden`; beside the work folder and what programs need
    to start, it may read what is `shown`.
    """
    top: dict[str, Json] = {} if model is None else {"model": model}
    top |= {
        "approval_policy": "never",
        "thread_unload_delay_secs": 1,
        "check_for_update_on_startup": False,
    }
    top |= {} if catalogue is None else {"model_catalog_json": str(catalogue)}
    top |= CHAT if profile == "chat" else {"default_permissions": LOCKED["read-only"]}
    if upstream is not None:
        top["model_provider"] = UPSTREAM
    off = (*ALWAYS_OFF, *(CHAT_OFF if profile == "chat" else ()))
    tables: dict[str, Mapping[str, Json]] = {
        "": top,
        "features": dict.fromkeys(off, False),
        "shell_environment_policy": {
            "ignore_default_excludes": False,
            "include_only": ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"],
        },
    }
    if profile == "chat":
        tables |= {"skills.bundled": {"enabled": False}, "agents": {"enabled": False}}
    else:
        tables |= _permissions(hidden, shown)
    if upstream is not None:
        tables[f"model_providers.{UPSTREAM}"] = _provider(upstream)
    return "\n".join(_table(name, rows) for name, rows in tables.items())


def _permissions(hidden: Sequence[Path], shown: Sequence[Path]) -> dict[str, Mapping[str, Json]]:
    tables: dict[str, Mapping[str, Json]] = {}
    for mode, name in LOCKED.items():
        access = "write" if mode == "workspace-write" else "read"
        rules = {json.dumps(str(path)): "read" for path in shown}
        rules |= {json.dumps(str(path)): "deny" for path in hidden}
        # Nothing of the machine can be read but what programs need to start, and the work folder.
        tables[f"permissions.{name}.filesystem"] = {'":minimal"': "read", **rules}
        tables[f'permissions.{name}.filesystem.":workspace_roots"'] = {'"."': access}
    return tables


def _provider(upstream: Upstream) -> dict[str, Json]:
    rows: dict[str, Json] = {
        "name": "scillm upstream",
        "base_url": upstream.base_url.rstrip("/"),
        "wire_api": "responses",
        "supports_websockets": False,
        "request_max_retries": upstream.retries,
        "stream_max_retries": upstream.retries,
        "stream_idle_timeout_ms": upstream.idle_ms,
    }
    return rows if upstream.api_key is None else {**rows, "env_key": UPSTREAM_KEY}


def _table(name: str, rows: Mapping[str, Json]) -> str:
    # JSON's strings, numbers, booleans and lists of strings are also TOML's.
    lines = [f"[{name}]"] if name else []
    return "\n".join([*lines, *(f"{key} = {json.dumps(rows[key])}" for key in rows), ""])


def make_home(
    root: Path,
    profile: Profile,
    *,
    upstream: Upstream | None = None,
    auth: Path | None = None,
    model: str | None = None,
    binary: Path | None = None,
) -> Path:
    """Make the home of one profile below `root`; `auth` is an auth.json to refer to.

    Raises `UsageError` for a root below /tmp, where Codex refuses to work.
    """
    base = root.expanduser().resolve()
    if base.is_relative_to("/tmp"):  # noqa: S108 - the very folder that is refused
        raise UsageError(
            f"The sidecar's home {base} is below /tmp, where Codex refuses to make its helper "
            "programs. Set SCILLM_CODEX_HOME to a folder elsewhere."
        )
    home = base / profile
    home.mkdir(parents=True, exist_ok=True)
    home_of(home).mkdir(exist_ok=True)
    base.chmod(0o700)
    home.chmod(0o700)
    # The home as a whole cannot be denied: the sandbox starts from a link in its folder `tmp`. What
    # is not named is unreadable all the same, as long as no work folder holds the home.
    hidden = [home / name for name in ("auth.json", "config.toml")]
    hidden += [base / name for name in PROFILES if name != profile]
    hidden += [] if auth is None else [auth.expanduser().resolve()]
    # The sandbox is a program of the package that the binary came in, called by a link in the home.
    shown = [home / "tmp"] + ([] if binary is None else [binary.resolve().parent.parent])
    (home / "tmp").mkdir(exist_ok=True)
    catalogue = None
    if profile == "chat" and binary is not None:
        catalogue = _catalogue(home, binary)
    text = config_toml(
        profile, upstream=upstream, hidden=hidden, shown=shown, model=model, catalogue=catalogue
    )
    # At once: a Codex of another sidecar that starts now shall find the old config or the new one.
    fresh = home / f"config.toml.{os.getpid()}"
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(home / "config.toml")
    link = home / "auth.json"
    if link.is_symlink():
        link.unlink()
    if auth is not None and not link.exists():
        link.symlink_to(auth.expanduser().resolve())
    return home


def refuse_work_in(folder: Path, home: Path) -> None:
    """Raise `UsageError` for a work folder that holds the sidecar's home, or lies in it."""
    if home.is_relative_to(folder) or folder.is_relative_to(home):
        raise UsageError(
            f"The work folder {folder} and the sidecar's home {home} hold one another, and the "
            "model could read the login. Work elsewhere, or set SCILLM_CODEX_HOME."
        )


def _catalogue(home: Path, binary: Path) -> Path | None:
    # The binary shall read no config, not even an older one of this home.
    with tempfile.TemporaryDirectory(dir=home, prefix="catalogue-") as empty:
        env = {**child_environment(home, os.environ), "CODEX_HOME": empty}
        found = read_catalogue(binary, env)
    if found is None:
        return None
    path = home / "models.json"
    path.write_text(json.dumps(plain_catalogue(found)), encoding="utf-8")
    return path


def home_of(codex_home: Path) -> Path:
    """The HOME of Codex and its commands: empty, and outside of what they must not read."""
    return codex_home.parent / "home"


def child_environment(
    home: Path, environ: Mapping[str, str], *, upstream: Upstream | None = None
) -> dict[str, str]:
    """All that the Codex process sees of the environment."""
    seen = {name: environ[name] for name in PASSED if environ.get(name)}
    seen |= {"CODEX_HOME": str(home), "HOME": str(home_of(home))}
    seen.setdefault("PATH", os.defpath)
    if upstream is not None and upstream.api_key is not None:
        seen[UPSTREAM_KEY] = upstream.api_key
    return seen
