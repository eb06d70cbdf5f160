"""What the Codex sidecar adds: the sidecar beside the app-server itself and `codex exec`.

    python benchmarks/codex.py [--requests 200]

The real Codex CLI (see tests/support/codex_cli.py) asks a local Responses service that answers at
once, in a process of its own. Every way asks the same question; the ways take turns, so that a slow
spell of the machine falls on all. **Read the ratios, not the milliseconds.**
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from scillm.records import ChatRequest
from scillm_codex.sidecar.app import Sidecar, prepared
from scillm_codex.sidecar.binary import find_binary, with_version
from scillm_codex.sidecar.codex import CodexServer
from scillm_codex.sidecar.execing import CodexExec
from scillm_codex.sidecar.home import Upstream
from scillm_codex.sidecar.keeper import Keeper
from support.codex_cli import codex_root, codex_shim
from support.codex_service import KEY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

MESSAGES = [{"role": "user", "content": "hi there"}]
SERVICE = """
import sys, time
sys.path.insert(0, sys.argv[1])
from support.codex_service import CodexService
with CodexService().running_here() as service:
    print(service.base_url, flush=True)
    sys.stdin.read()
"""
Way = Callable[[], Awaitable[None]]


@contextmanager
def process(*argv: str, env: dict[str, str] | None = None) -> Iterator[tuple[str, int]]:
    """The last word of a process's first line, and its id; it ends with the block."""
    child = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=env,
    )  # fmt: skip
    try:
        assert child.stdout is not None
        yield child.stdout.readline().split()[-1], child.pid
    finally:
        child.terminate()
        child.communicate(timeout=30)


def body(*, stream: bool = False) -> dict[str, Any]:
    return {"model": "fake-plain", "messages": MESSAGES, "stream": stream}


@asynccontextmanager
async def ways(root: Path, upstream: Upstream, url: str) -> AsyncIterator[dict[str, Way]]:
    """Every way to ask, ready to be asked."""
    binary = with_version(find_binary(codex_shim()))
    made = Sidecar(binary=binary, root=root / "direct", upstream=upstream)
    command, place = prepared(made, binary)
    request = ChatRequest(model="fake-plain", messages=MESSAGES)
    async with AsyncExitStack() as stack:
        keeper = await stack.enter_async_context(Keeper(command))
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=60))
        direct = CodexServer(keeper, place)
        fallback = CodexExec(command, place, turn_s=60)

        async def over_http() -> None:
            answer = await client.post(f"{url}/v1/chat/completions", json=body())
            assert answer.json()["choices"][0]["message"]["content"] == "echo: hi there"

        async def app_server() -> None:
            assert (await direct.complete(request)).text == "echo: hi there"

        async def by_exec() -> None:
            assert (await fallback.complete(request)).text.endswith("hi there")

        async def model_itself() -> None:
            sent = {"model": "fake-plain", "stream": True, "input": [
                {"type": "message", "role": "user",
                 "content": [{"type": "input_text", "text": "hi there"}]}]}  # fmt: skip
            head = {"authorization": f"Bearer {KEY}"}
            answer = await client.post(f"{upstream.base_url}/responses", json=sent, headers=head)
            assert "response.completed" in answer.text

        yield {
            "the model itself": model_itself,
            "app-server, no HTTP": app_server,
            "sidecar over HTTP": over_http,
            "codex exec --json": by_exec,
        }


async def in_sequence(found: dict[str, Way], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in found}
    for number in range(rounds):
        for name, way in found.items():
            if name.startswith("codex exec") and number % 10:
                continue
            began = time.perf_counter()
            await way()
            times[name].append(time.perf_counter() - began)
    return times


async def at_once(way: Way, count: int, width: int) -> float:
    limiter = anyio.CapacityLimiter(width)

    async def one() -> None:
        async with limiter:
            await way()

    began = time.perf_counter()
    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(one)
    return count / (time.perf_counter() - began)


async def first_pieces(url: str, upstream: Upstream, rounds: int) -> tuple[float, float]:
    """Median seconds to the first piece of text: from the model itself, and through the sidecar."""
    sent = {"model": "fake-plain", "stream": True, "input": [
        {"type": "message", "role": "user",
         "content": [{"type": "input_text", "text": "hi there"}]}]}  # fmt: skip
    head = {"authorization": f"Bearer {KEY}"}
    found: tuple[list[float], list[float]] = ([], [])
    async with httpx.AsyncClient(timeout=60) as client:
        for _ in range(rounds):
            asked = (
                (f"{upstream.base_url}/responses", sent, "output_text.delta"),
                (f"{url}/v1/chat/completions", body(stream=True), '"content":"'),
            )
            for place, (address, document, sign) in enumerate(asked):
                began = time.perf_counter()
                async with client.stream("POST", address, json=document, headers=head) as answer:
                    said = ""
                    async for piece in answer.aiter_text():
                        said += piece
                        if sign in said:
                            found[place].append(time.perf_counter() - began)
                            break
    return statistics.median(found[0]), statistics.median(found[1])


def rss_mb(pid: int) -> float:
    """Memory of the process and all below it, in MB."""
    rows: dict[int, tuple[int, int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rsplit(") ", 1)[1].split()[1])
            rows[int(entry.name)] = parent, int((entry / "statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue

    def pages(of: int) -> int:
        return rows[of][1] + sum(pages(child) for child, (up, _) in rows.items() if up == of)

    return pages(pid) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def measured(root: Path, upstream: Upstream, url: str, pid: int, requests: int) -> None:
    async with ways(root, upstream, url) as found:
        for way in found.values():
            await way()
        times = await in_sequence(found, max(10, requests // 4))
        base = statistics.median(times["app-server, no HTTP"])
        print("| in sequence | p50 ms | p95 ms | ÷ app-server |")
        print("| --- | ---: | ---: | ---: |")
        for name, row in times.items():
            p50 = statistics.median(row)
            p95 = sorted(row)[int(len(row) * 0.95)]
            print(f"| {name} | {p50 * 1000:.1f} | {p95 * 1000:.1f} | {p50 / base:.2f} |")
        model = statistics.median(times["the model itself"])
        added = statistics.median(times["sidecar over HTTP"]) - model
        print(f"\nAdded by sidecar and Codex together: {added * 1000:.1f} ms per request.\n")
        print("| at once | 4 | 16 | ÷ app-server at 16 |")
        print("| --- | ---: | ---: | ---: |")
        rates = {}
        for name in ("app-server, no HTTP", "sidecar over HTTP"):
            rates[name] = [await at_once(found[name], requests, width) for width in (4, 16)]
        for name, (four, sixteen) in rates.items():
            ratio = sixteen / rates["app-server, no HTTP"][1]
            print(f"| {name} | {four:.1f}/s | {sixteen:.1f}/s | {ratio:.2f} |")
        direct, through = await first_pieces(url, upstream, max(10, requests // 10))
        print(
            f"\nFirst piece: {direct * 1000:.1f} ms from the model, {through * 1000:.1f} ms "
            f"through the sidecar (+{(through - direct) * 1000:.1f} ms).\n"
        )
        before = rss_mb(pid)
        await at_once(found["sidecar over HTTP"], 5 * requests, 8)
        await anyio.sleep(3)
        print(
            f"Memory of sidecar and Codex: {before:.0f} MB, after {5 * requests} more requests "
            f"{rss_mb(pid):.0f} MB."
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--requests", type=int, default=200)
    asked = parser.parse_args()
    tests = str(Path(__file__).parents[1] / "tests")
    with codex_root() as root, process(sys.executable, "-c", SERVICE, tests) as (base, _):
        upstream = Upstream(base_url=base, api_key=KEY)
        env = {
            **os.environ,
            "SCILLM_CODEX_BIN": str(codex_shim()),
            "SCILLM_CODEX_HOME": str(root / "served"),
            "SCILLM_CODEX_UPSTREAM": base,
            "SCILLM_CODEX_UPSTREAM_KEY": KEY,
        }
        serve = (sys.executable, "-m", "scillm", "codex", "serve", "--port", "0")
        with process(*serve, env=env) as (url, pid):
            anyio.run(measured, root, upstream, url, pid, asked.requests)


if __name__ == "__main__":
    main()
