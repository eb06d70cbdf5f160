"""SciLLM: LLMs propose, deterministic checks dispose.

The public names are found at first use, so that `import scillm` costs nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scillm.api import acompletion, aembedding, completion, embedding
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
        UnknownPriceError,
        UnprocessableEntityError,
        UnsupportedParamError,
        UsageError,
    )
    from scillm.models import Completion, CompletionChunk, EmbeddingResponse
    from scillm.plugins.registry import Registry
    from scillm.recording import record, replay
    from scillm.records import ChatRequest, Claim, Endpoint, Job, Limits, Outcome, Trial, Verdict
    from scillm.resilience.spend import Budget, Spend
    from scillm.routing.parallel import ParallelResult, RouterParallelRequest
    from scillm.routing.router import Router
    from scillm.routing.spending import set_budget, spend
    from scillm.routing.streams import AsyncCompletionStream, CompletionStream
    from scillm.runs.cache import ResponseCache, cache_stats, initialize_cache
    from scillm.runs.manifest import Manifest
    from scillm.runs.store import RunStore
    from scillm.search.solve import asolve, solve
    from scillm.search.tasks import Solution, Task

_HOMES = {
    "scillm.api": ("acompletion", "aembedding", "completion", "embedding"),
    "scillm.models": ("Completion", "CompletionChunk", "EmbeddingResponse"),
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
    "scillm.resilience.spend": ("Budget", "Spend"),
    "scillm.routing.router": ("Router",),
    "scillm.routing.spending": ("set_budget", "spend"),
    "scillm.routing.streams": ("AsyncCompletionStream", "CompletionStream"),
    "scillm.runs.cache": ("ResponseCache", "cache_stats", "initialize_cache"),
    "scillm.runs.manifest": ("Manifest",),
    "scillm.runs.store": ("RunStore",),
    "scillm.search.solve": ("asolve", "solve"),
    "scillm.search.tasks": ("Solution", "Task"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "APIConnectionError",
    "APITimeoutError",
    "AmbiguousModelError",
    "AsyncCompletionStream",
    "AuthenticationError",
    "BadRequestError",
    "Budget",
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
    "EmbeddingResponse",
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
    "ResponseCache",
    "Router",
    "RouterParallelRequest",
    "RunStore",
    "SandboxError",
    "SchemaError",
    "ScillmError",
    "SettingsError",
    "Solution",
    "Spend",
    "StoredRunError",
    "StreamInterruptedError",
    "Task",
    "Trial",
    "UnknownModelError",
    "UnknownPriceError",
    "UnprocessableEntityError",
    "UnsupportedParamError",
    "UsageError",
    "Verdict",
    "acompletion",
    "aembedding",
    "asolve",
    "cache_stats",
    "completion",
    "embedding",
    "initialize_cache",
    "record",
    "replay",
    "set_budget",
    "solve",
    "spend",
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
