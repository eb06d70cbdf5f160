"""The refusals that are Chutes' own, with what follows from each."""

from __future__ import annotations

from typing import Any

from scillm.errors import CapacityError, PaymentRequiredError, RateLimitError, UsageError


class ModelFullError(RateLimitError, CapacityError):
    """The model has no room for now; another model may."""


class ColdModelError(CapacityError):
    """No instance of the model runs; it can be warmed up, or another model asked."""


class DisabledModelError(CapacityError):
    """The model is switched off or under maintenance; waiting a little does not help."""

    retryable = False


class KeyPausedError(RateLimitError):
    """The key is limited as a whole: no model will answer it before the pause ends.

    `.sent` tells whether a request left; while the pause lasts none does.
    """

    def __init__(self, message: str, *, sent: bool = False, **details: Any) -> None:
        super().__init__(message, **details)
        self.sent = sent


class QuotaError(PaymentRequiredError):
    """A quota is used up. `.resets_at` is the Unix time of its reset, None when not known."""

    def __init__(self, message: str, *, resets_at: float | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.resets_at = resets_at


class IncapableModelError(UsageError):
    """The model's own row says that it cannot do this; nothing was sent. Another model may."""

    try_elsewhere = True
