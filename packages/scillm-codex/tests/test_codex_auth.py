"""Codex's login, read by us."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from scillm_codex.doctor.auth import expiry, read_auth, read_auth_file

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_795_000_000.0
KEY = "sk-very-secret-key"


def jwt(exp: float) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": exp}).encode()).decode().rstrip("=")
    return f"e30.{claims}.sig"


def chatgpt(**changes: Any) -> str:
    tokens = {
        "id_token": "e30.e30.s",
        "access_token": jwt(NOW + 3600),
        "refresh_token": "r",
        "account_id": "a",
    }
    document = {
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": None,
        "tokens": {**tokens, **changes},
        "last_refresh": "2026-11-15T08:00:00.123456789Z",
    }
    return json.dumps(document)


def test_a_key_is_a_login_and_is_never_shown() -> None:
    """The summary says the mode, not the key."""
    auth = read_auth(json.dumps({"OPENAI_API_KEY": KEY}), file_mode=0o600, now=NOW)

    assert auth.usable
    assert auth.mode == "apikey"
    assert KEY not in json.dumps(auth.summary()) + repr(auth)


@pytest.mark.parametrize("text", ["{}", "garbage", "[]", '{"OPENAI_API_KEY": ""}', "null"])
def test_what_codex_itself_calls_a_login_and_is_none_is_found(text: str) -> None:
    """`codex login status` says yes to `{}`; here it is a problem with a way out."""
    auth = read_auth(text, file_mode=0o600, now=NOW)

    assert not auth.usable
    assert "codex login" in auth.problem


def test_each_missing_token_is_named() -> None:
    """A ChatGPT login needs four fields."""
    auth = read_auth(chatgpt(refresh_token="", account_id=None), file_mode=0o600, now=NOW)

    assert not auth.usable
    assert "tokens.refresh_token, tokens.account_id" in auth.problem


def test_expiry_and_age_are_told() -> None:
    """An expired token is a warning: Codex can refresh it."""
    auth = read_auth(chatgpt(access_token=jwt(NOW - 1)), file_mode=0o600, now=NOW)

    assert auth.usable
    assert any("expired" in warning for warning in auth.warnings)
    assert auth.expires.startswith("2026-11-1")


def test_a_file_that_others_can_read_is_told() -> None:
    """A login is for its owner's eyes."""
    auth = read_auth(chatgpt(), file_mode=0o644, now=NOW)

    assert any("chmod 600" in warning for warning in auth.warnings)


@pytest.mark.parametrize("token", ["", "a.b", "a.!!!.c", "e30.W10.c", "e30.e30.c"])
def test_a_token_that_does_not_say_when_it_expires_is_no_crash(token: str) -> None:
    """Whatever stands in the file, the doctor goes on."""
    assert expiry(token) is None


def test_no_file_is_no_login(tmp_path: Path) -> None:
    """A missing file names the place that was looked at."""
    auth = read_auth_file(tmp_path / "auth.json")

    assert auth.mode == "none"
    assert str(tmp_path) in auth.problem
