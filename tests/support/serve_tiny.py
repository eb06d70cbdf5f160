"""Serve a GGUF with llama.cpp's own HTTP server on an ephemeral loopback port:

serve_tiny.py MODEL [--embedding]

Prints one line, the server's address, when it is ready. Ends when standard input does, or when its
parent dies.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
UNAVAILABLE = "unavailable:"
SLOTS = 2
CONTEXT_TOKENS = 65_536


def die_with_parent() -> None:
    """Ask Linux for a kill when the parent dies; elsewhere the end of standard input must do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Serve until standard input ends."""
    die_with_parent()
    try:
        import xllamacpp
    except ImportError as exc:
        print(f"{UNAVAILABLE} {exc}", flush=True)
        sys.exit(1)
    params = xllamacpp.CommonParams()  # pyright: ignore[reportAttributeAccessIssue]
    params.model.path = sys.argv[1]
    params.model_alias = {"tiny"}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = CONTEXT_TOKENS
    params.n_parallel = SLOTS
    params.warmup = False
    params.use_jinja = True
    params.verbosity = 0
    # One thread: two spin against each other on a busy machine and turn 12 ms into seconds.
    params.cpuparams.n_threads = 1
    if sys.argv[2:] == ["--embedding"]:
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN  # pyright: ignore[reportAttributeAccessIssue]
    server = xllamacpp.Server(params)  # pyright: ignore[reportAttributeAccessIssue]
    print(server.listening_address, flush=True)
    sys.stdin.buffer.read()
    os._exit(0)  # llama.cpp's threads are not worth waiting for


if __name__ == "__main__":
    main()
