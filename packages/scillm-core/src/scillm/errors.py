"""The error tree: what went wrong, where, and whether another try can help.

Names follow the `openai` client where it has one. Every error pickles and deep-copies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scillm.models import Completion
    from scillm.records import Attempt


def _rebuild(cls: type[ScillmError], args: tuple[Any, ...], state: dict[str, Any]) -> ScillmError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class ScillmError(Exception):
    """Root of everything SciLLM raises on purpose."""

    retryable: ClassVar[bool] = False
    """Another try of the same call, later, can help."""
    try_elsewhere: ClassVar[bool] = False
    """The same request may succeed at another deployment."""
    rounds: tuple[Mapping[str, Any], ...] = ()
    """Every question and answer before this error, of a call that asks several times."""

    @property
    def message(self) -> str:
        """The text of the error."""
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


# -- nothing left the process ------------------------------------------------------------------


class UsageError(ScillmError):
    """The call itself is wrong; nothing left the process."""


class PluginError(UsageError):
    """A plugin cannot be used. That is one deployment's trouble; another may still answer."""

    try_elsewhere = True


class PluginNotFoundError(PluginError):
    """No installed plugin has this name."""


class PluginConflictError(PluginError):
    """Two distributions offer the same name."""


class PluginLoadError(PluginError):
    """The plugin is installed, but importing or building it failed, or it has the wrong shape."""


class UnknownModelError(UsageError):
    """No provider or deployment is known for this model."""

    def __init__(self, message: str, *, candidates: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.candidates = tuple(candidates)


class AmbiguousModelError(UsageError):
    """The model name fits several models."""

    def __init__(self, message: str, *, candidates: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.candidates = tuple(candidates)


class ImageRejectedError(UsageError):
    """An image in the request breaks the image policy."""


class SettingsError(UsageError):
    """A setting has a value that cannot be used."""


class UnsupportedParamError(UsageError):
    """An argument is unknown or cannot be sent. `.param` names it."""

    def __init__(self, message: str, *, param: str = "") -> None:
        super().__init__(message)
        self.param = param


class BudgetExceededError(UsageError):
    """The budget given for this work is used up.

    `.unit` is requests, tokens or usd; `.fits_later` is true when the request would fit once what
    is in the air has turned out to cost no more than it is known to cost now.
    """

    def __init__(self, message: str, *, unit: str = "", fits_later: bool = False) -> None:
        super().__init__(message)
        self.unit = unit
        self.fits_later = fits_later


class UnknownPriceError(UsageError):
    """Money is bounded, but nobody knows what this model costs. `.model` names it."""

    def __init__(self, message: str, *, model: str = "") -> None:
        super().__init__(message)
        self.model = model


class StoredRunError(UsageError):
    """A stored run is missing, ambiguous or damaged."""


class CassetteError(UsageError):
    """A cassette is damaged, or does not hold the request that was made."""


# -- an upstream answered badly, or not at all -------------------------------------------------


class ProviderError(ScillmError):
    """An upstream answered badly, or not at all.

    Attributes: `provider`, `model`, `status_code` (None when no reply came), `retry_after`
    (seconds the upstream asked us to wait, or None), `body` (an excerpt, secrets masked),
    `request_id`, `attempts` (every try of this call).
    """

    try_elsewhere = True

    def __init__(
        self,
        message: str,
        *,
        provider: str = "",
        model: str = "",
        status_code: int | None = None,
        retry_after: float | None = None,
        body: str = "",
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.model = model
        self.status_code = status_code
        self.retry_after = retry_after
        self.body = body
        self.request_id = request_id
        self.attempts: tuple[Attempt, ...] = ()


class BadRequestError(ProviderError):
    """400: the request itself is refused; it would be refused elsewhere too."""

    try_elsewhere = False


class UnprocessableEntityError(BadRequestError):
    """422: the request is well formed, but a value in it is refused."""


class ContextWindowExceededError(BadRequestError):
    """The messages do not fit into the model's context window."""


class ContentPolicyViolationError(BadRequestError):
    """The upstream's content policy refuses the request."""


class AuthenticationError(ProviderError):
    """401: the credentials are missing or wrong."""


class PaymentRequiredError(ProviderError):
    """402: the account has no credit."""


class PermissionDeniedError(ProviderError):
    """403: the credentials are known, but not allowed to do this."""


class NotFoundError(ProviderError):
    """404: the model or the address does not exist there."""


class ConflictError(ProviderError):
    """409: the upstream is in a state that refuses this call for the moment."""

    retryable = True


class RateLimitError(ProviderError):
    """429: too many requests or tokens for now."""

    retryable = True


class CapacityError(ProviderError):
    """503 or 529: the service is up, but has no room."""

    retryable = True


class InternalServerError(ProviderError):
    """500, 502, 504 and other 5xx: the upstream failed."""

    retryable = True


class APIConnectionError(ProviderError):
    """No complete reply came: refused, reset, cut off, or a name that does not resolve."""

    retryable = True
    was_sent = True
    """False where no connection was made, so that the upstream has certainly seen nothing."""


class APITimeoutError(APIConnectionError):
    """No complete reply came in time, or the upstream said 408."""


class MalformedReplyError(ProviderError):
    """A reply came, but it is not what the protocol says."""


class StreamInterruptedError(ProviderError):
    """A stream broke after its first chunk. `.partial` is the Completion so far."""

    def __init__(self, message: str, *, partial: Completion | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.partial = partial


# -- the answer, or the engine -----------------------------------------------------------------


class SchemaError(ScillmError):
    """The answer does not fit the schema. `.path` is a JSON pointer, `.text` the answer.

    `.problems` has every misfit as a sentence, the one at `.path` first.
    """

    def __init__(
        self, message: str, *, path: str = "", text: str = "", problems: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.path = path
        self.text = text
        self.problems = tuple(problems)


class JsonTextError(ScillmError):
    """A text does not hold exactly one JSON document that can be trusted.

    `.kind` is the reason in one word, as `scillm.structured.jsontext` lists them; `.text` is an
    excerpt.
    """

    def __init__(self, message: str, *, kind: str = "", text: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.text = text


class EngineError(ScillmError):
    """An engine could not do its work; says nothing about the thing it worked on."""


class SandboxError(EngineError):
    """The sandbox could not be built or kept."""


class ProverError(EngineError):
    """The prover could not be started or kept."""
