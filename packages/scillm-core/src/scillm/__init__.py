"""SciLLM: LLMs propose, deterministic checks dispose.

The public names are found at first use, so that `import scillm` costs nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scillm.api import acompletion, completion
    from scillm.errors import (
        AmbiguousModelError,
        APIConnectionError,
        APITimeoutError,
        AuthenticationError,
        BadRequestError,
        BudgetExceededError,
        CapacityError,
        CassetteError,
        ConflictError,
        ContentPolicyViolationError,
        ContextWindowExceededError,
        EngineError,
        ImageRejectedError,
        InternalServerError,
        JsonTextError,
        MalformedReplyError,
        NotFoundError,
        PaymentRequiredError,
        PermissionDeniedError,
        PluginConflictError,
        PluginError,
        PluginLoadError,
        PluginNotFoundError,
        ProverError,
        ProviderError,
        RateLimitError,
        SandboxError,
        SchemaError,
        ScillmError,
        SettingsError,
        StoredRunError,
        StreamInterruptedError,
        UnknownModelError,
        UnprocessableEntityError,
        UnsupportedParamError,
        UsageError,
    )
    from scillm.models import Completion, CompletionChunk
    from scillm.plugins.registry import Registry
    from scillm.recording import record, replay
    from scillm.records import ChatRequest, Claim, Endpoint, Job, Limits, Outcome, Trial, Verdict
    from scillm.routing.parallel import ParallelResult, RouterParallelRequest
    from scillm.routing.router import Router
    from scillm.routing.streams import AsyncCompletionStream, CompletionStream
    from scillm.runs.manifest import Manifest
    from scillm.runs.store import RunStore

_HOMES = {
    "scillm.api": ("acompletion", "completion"),
    "scillm.models": ("Completion", "CompletionChunk"),
    "scillm.plugins.registry": ("Registry",),
    "scillm.recording": ("record", "replay"),
    "scillm.records": (
        "ChatRequest",
        "Claim",
        "Endpoint",
        "Job",
        "Limits",
        "Outcome",
        "Trial",
        "Verdict",
    ),
    "scillm.routing.parallel": ("ParallelResult", "RouterParallelRequest"),
    "scillm.routing.router": ("Router",),
    "scillm.routing.streams": ("AsyncCompletionStream", "CompletionStream"),
    "scillm.runs.manifest": ("Manifest",),
    "scillm.runs.store": ("RunStore",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "APIConnectionError",
    "APITimeoutError",
    "AmbiguousModelError",
    "AsyncCompletionStream",
    "AuthenticationError",
    "BadRequestError",
    "BudgetExceededError",
    "CapacityError",
    "CassetteError",
    "ChatRequest",
    "Claim",
    "Completion",
    "CompletionChunk",
    "CompletionStream",
    "ConflictError",
    "ContentPolicyViolationError",
    "ContextWindowExceededError",
    "Endpoint",
    "EngineError",
    "ImageRejectedError",
    "InternalServerError",
    "Job",
    "JsonTextError",
    "Limits",
    "MalformedReplyError",
    "Manifest",
    "NotFoundError",
    "Outcome",
    "ParallelResult",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "PluginConflictError",
    "PluginError",
    "PluginLoadError",
    "PluginNotFoundError",
    "ProverError",
    "ProviderError",
    "RateLimitError",
    "Registry",
    "Router",
    "RouterParallelRequest",
    "RunStore",
    "SandboxError",
    "SchemaError",
    "ScillmError",
    "SettingsError",
    "StoredRunError",
    "StreamInterruptedError",
    "Trial",
    "UnknownModelError",
    "UnprocessableEntityError",
    "UnsupportedParamError",
    "UsageError",
    "Verdict",
    "acompletion",
    "completion",
    "record",
    "replay",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("scillm-core")
    if name not in __all__:
        raise AttributeError(f"module 'scillm' has no attribute {name!r}")
    from importlib import import_module

    home = _HOME_OF.get(name, "scillm.errors")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
