"""What clients of SciLLM's own bridges have always written, as data."""

from __future__ import annotations

from scillm.serve.envelope import EnvelopeSpec

CODEWORLD = EnvelopeSpec(
    engine="codeworld",
    schema="canonical+codeworld@v1",
    aliases={
        "codeworld_metrics": "metrics",
        "codeworld_iterations": "iterations",
        "codeworld_allowed_languages": "allowed_languages",
        "request_timeout": "max_seconds",
    },
    renames={"exploration_constant": "uct_c"},
    groups={"strategy_config": {"name": "strategy"}},
    default_item={"task": "run", "context": {}},
    statistics={
        "iterations": "options.iterations",
        "metrics": "options.metrics",
        "allowed_languages": "options.allowed_languages",
    },
)

CERTAINLY = EnvelopeSpec(
    engine="certainly",
    schema="canonical+lean4@v1",
    names=("lean4",),
    items_aliases=("lean4_requirements",),
    aliases={"lean4_flags": "flags", "backend": "backend", "request_timeout": "max_seconds"},
    item_aliases={"requirement": "requirement_text"},
    split_by_comma=("strategies",),
    results_aliases=("proof_results",),
    statistics={
        "successful_proofs": "summary.proved",
        "failed_proofs": "summary.failed",
        "unproved": "summary.unproved",
    },
)
