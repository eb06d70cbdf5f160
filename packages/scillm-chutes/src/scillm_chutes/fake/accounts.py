"""The fake's users: keys, the edge's limiter with bans that grow, quotas."""

from __future__ import annotations

import hashlib
import re
import secrets
from math import inf

from attrs import define, field

KEY = re.compile(r"cpk_[a-f0-9]{32}\.[a-f0-9]{32}\.[A-Za-z0-9]{32}")
FIRST_BAN_S, LONGEST_BAN_S = 60.0, 86_400.0


def new_key() -> str:
    """A key of the service's form that nobody has."""
    return f"cpk_{secrets.token_hex(16)}.{secrets.token_hex(16)}.{secrets.token_hex(16)}"


def key_label(key: str) -> str:
    """What stands for a key in the fake's log."""
    return f"key-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


@define(kw_only=True)
class FakeAccount:
    """One user. Remembers the limiter's tokens and bans.

    `trouble` refuses every call: daily quota, window, free quota, minute, tier; "" is none.
    """

    key: str = field(factory=new_key, repr=False)
    limit_per_min: float = 60.0
    burst: float = 60.0
    balance: float = 25.0
    quota: int = 300
    trouble: str = ""
    tokens: float = inf
    filled_at: float = -inf
    banned_until: float = -inf
    bans: int = 0
    calls: int = 0
    calls_in_ban: int = 0
    billed: int = 0

    @property
    def label(self) -> str:
        """What stands for the key in the log."""
        return key_label(self.key)

    def admit(self, now: float) -> bool:
        """Whether the edge lets a call pass; overrunning the limit starts a ban, each twice as
        long as the one before."""
        self.calls += 1
        if now < self.banned_until:
            self.calls_in_ban += 1
            return False
        since = 0.0 if self.filled_at == -inf else now - self.filled_at
        self.tokens = min(self.burst, self.tokens + since * self.limit_per_min / 60.0)
        self.filled_at = now
        if self.tokens >= 1.0:
            self.tokens -= 1.0
            return True
        self.ban(now)
        return False

    def ban(self, now: float) -> None:
        """Start the next ban."""
        self.bans += 1
        self.banned_until = now + min(FIRST_BAN_S * 2.0 ** (self.bans - 1), LONGEST_BAN_S)
