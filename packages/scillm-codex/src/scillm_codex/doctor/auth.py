"""Codex's login, read by us: `codex login status` says yes to an empty file."""

from __future__ import annotations

import base64
import binascii
import json
import stat
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from scillm.records import Json

TOKENS = ("id_token", "access_token", "refresh_token", "account_id")
STALE_DAYS = 28
LOGIN = "Log in with `codex login`, or `printenv KEY | codex login --with-api-key`."
SHARED = 0o077
"""Mode bits that let others than the owner read or write."""


@frozen(kw_only=True)
class Auth:
    """A login. Holds no secret."""

    mode: str = "none"
    """`apikey`, `chatgpt`, `none` (no file), or `broken`."""
    problem: str = ""
    """Why it cannot work; empty when it can."""
    warnings: tuple[str, ...] = ()
    expires: str = ""
    last_refresh: str = ""

    @property
    def usable(self) -> bool:
        """Whether requests can carry it."""
        return not self.problem

    def summary(self) -> dict[str, Json]:
        """For `/ready` and the doctor."""
        rows: dict[str, Json] = {"mode": self.mode, "usable": self.usable}
        rows |= {"problem": self.problem} if self.problem else {}
        rows |= {"warnings": list(self.warnings)} if self.warnings else {}
        rows |= {"expires": self.expires} if self.expires else {}
        rows |= {"last_refresh": self.last_refresh} if self.last_refresh else {}
        return rows


def read_auth_file(path: Path | None, *, now: float | None = None) -> Auth:
    """The login in a file; a missing or unreadable one is a login with a problem."""
    if path is None:
        return Auth(problem=f"No auth.json is named. {LOGIN}")
    try:
        text = path.read_text(encoding="utf-8")
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return Auth(problem=f"There is no login at {path}. {LOGIN}")
    except (OSError, UnicodeDecodeError) as error:
        return Auth(mode="broken", problem=f"{path} cannot be read: {error}.")
    return read_auth(text, file_mode=mode, now=time.time() if now is None else now)


def read_auth(text: str, *, file_mode: int, now: float) -> Auth:
    """The login in the text of an auth.json; `now` is Unix time in seconds."""
    try:
        document = json.loads(text)
    except ValueError as error:
        return Auth(mode="broken", problem=f"auth.json is not JSON ({error}). {LOGIN}")
    if not isinstance(document, Mapping) or not document:
        return Auth(mode="broken", problem=f"auth.json holds no login. {LOGIN}")
    warnings: tuple[str, ...] = ()
    if file_mode & SHARED:
        warnings = (f"auth.json has mode {file_mode:04o}; others can read it: chmod 600.",)
    key = document.get("OPENAI_API_KEY")
    tokens = document.get("tokens")
    if document.get("auth_mode") == "chatgpt" or (not key and tokens):
        return _chatgpt(document, tokens, warnings, now)
    if isinstance(key, str) and key.strip():
        return Auth(mode="apikey", warnings=warnings)
    return Auth(
        mode="broken", problem=f"auth.json has neither a key nor tokens. {LOGIN}", warnings=warnings
    )


def _chatgpt(
    document: Mapping[str, Json], tokens: Json, warnings: tuple[str, ...], now: float
) -> Auth:
    held = tokens if isinstance(tokens, Mapping) else {}
    missing = [name for name in TOKENS if not isinstance(held.get(name), str) or not held[name]]
    if missing:
        return Auth(
            mode="chatgpt",
            problem=f"auth.json lacks tokens.{', tokens.'.join(missing)}. {LOGIN}",
            warnings=warnings,
        )
    expires = expiry(held["access_token"])
    if expires is None:
        warnings = (*warnings, "the access token does not say when it expires")
    elif expires <= now:
        warnings = (*warnings, "the access token has expired; Codex refreshes it when it can")
    refreshed = _unix(document.get("last_refresh"))
    if refreshed is not None and now - refreshed > STALE_DAYS * 86400:
        warnings = (*warnings, f"the last refresh is {int((now - refreshed) / 86400)} days old")
    return Auth(
        mode="chatgpt",
        warnings=warnings,
        expires="" if expires is None else _shown(expires),
        last_refresh="" if refreshed is None else _shown(refreshed),
    )


def expiry(token: str) -> float | None:
    """The `exp` of a JWT as Unix time, its signature unchecked; None when it has none."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    padded = parts[1] + "=" * (-len(parts[1]) % 4)
    try:
        claims = json.loads(base64.urlsafe_b64decode(padded))
    except (ValueError, binascii.Error):
        return None
    found = claims.get("exp") if isinstance(claims, Mapping) else None
    return float(found) if isinstance(found, (int, float)) else None


def _unix(text: Json) -> float | None:
    if not isinstance(text, str):
        return None
    # Python 3.10 knows neither Z nor nanoseconds.
    head = text.strip().replace("Z", "").split("+")[0].split(".")[0]
    try:
        return datetime.fromisoformat(head).replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        return None


def _shown(moment: float) -> str:
    try:
        return datetime.fromtimestamp(moment, tz=timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return "a time beyond the calendar"
