"""Batch helpers under their documented path: `from scillm.contrib.batch import run_batch, …`."""

from scillm.batch.buckets import AsyncTokenBucket, TokenBucket, token_bucket_from_env
from scillm.batch.checkpoint import JsonlCheckpoint
from scillm.batch.runner import run_batch, run_batch_sync

__all__ = [
    "AsyncTokenBucket",
    "JsonlCheckpoint",
    "TokenBucket",
    "run_batch",
    "run_batch_sync",
    "token_bucket_from_env",
]
