"""The synchronous API: from scripts, threads, forked children, notebooks, and not from itself."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time

import anyio
import pytest
import scillm
from scillm import errors, portal
from support.faulty import CHAT_PATH, Json, Stall

MESSAGES = [{"role": "user", "content": "hi"}]


def ask(server, text="hi", **more):
    messages = [{"role": "user", "content": text}]
    return scillm.completion("openai/m", messages, api_base=server.base_url, **more).text


def run_script(script, *args, timeout=60):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *args],
        capture_output=True,
        text=True,
        timeout=timeout,
    )


SCRIPT = """
import sys, scillm
answer = scillm.completion("openai/m", [{"role": "user", "content": "hi"}], api_base=sys.argv[1])
stream = scillm.completion("openai/m", [{"role": "user", "content": "hi"}], api_base=sys.argv[1],
                           stream=True)
next(stream)
print(answer.text)
"""


def test_a_script_ends_cleanly_with_warnings_as_errors(faulty_server):
    """No unclosed socket, no hanging thread, even with a stream left open at exit."""
    done = run_script(SCRIPT, faulty_server.base_url)

    assert (done.returncode, done.stdout.strip()) == (0, "echo:hi")
    assert done.stderr == ""


def test_threads_get_their_own_answers(faulty_server):
    """Twenty threads at once share the background loop and mix nothing."""
    answers = {}

    def one(number):
        answers[number] = ask(faulty_server, f"q{number}")

    threads = [threading.Thread(target=one, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert answers == {n: f"echo:q{n}" for n in range(20)}


def test_inside_a_running_loop_it_works_too(faulty_server):
    """A notebook cell can call the synchronous API."""

    async def main():
        return ask(faulty_server)

    assert asyncio.run(main()) == "echo:hi"


FORK = """
import os, sys, gc, scillm
def ask():
    return scillm.completion("openai/m", [{"role": "user", "content": "hi"}],
                             api_base=sys.argv[1]).text
assert ask() == "echo:hi"
pid = os.fork()
if pid == 0:
    gc.collect()
    os._exit(0 if ask() == "echo:hi" else 3)
_, status = os.waitpid(pid, 0)
assert ask() == "echo:hi"
print(os.waitstatus_to_exitcode(status))
"""


def test_a_forked_child_gets_a_loop_of_its_own(faulty_server):
    """After a fork parent and child both go on calling; neither hangs."""
    done = run_script(FORK, faulty_server.base_url)

    assert (done.returncode, done.stdout.strip()) == (0, "0"), done.stderr


def test_calling_it_from_its_own_loop_is_a_clear_error():
    """A hook or provider that would wait for itself is told to use the async form."""

    class Inward:
        def __init__(self, endpoint, host):
            pass

        async def complete(self, request, /):
            return scillm.completion("echo/x", MESSAGES)

    router = scillm.Router(settings={})
    router.registry.register("scillm.providers", "inward", Inward)

    with pytest.raises(errors.UsageError, match="async form"):
        router.completion("inward/x", MESSAGES)


CTRL_C = """
import sys, scillm
try:
    scillm.completion("openai/m", [{"role": "user", "content": "hi"}], api_base=sys.argv[1])
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_cancels_the_call_and_closes_its_connection(faulty_server):
    """The upstream sees the client go; the program goes on."""
    faulty_server.queue(CHAT_PATH, Stall(20, Json({})))
    with subprocess.Popen(
        [sys.executable, "-c", CTRL_C, faulty_server.base_url],
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        faulty_server.wait_until(lambda: faulty_server.requests, 20)
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=20)

    assert out.strip() == "interrupted"
    faulty_server.wait_until(lambda: faulty_server.open_connections == 0)


HANDED_OVER = """
import signal, sys, threading, time, anyio
from scillm import portal
portal.call(anyio.sleep, 0)
waiting = portal._running.portal.start_task_soon
def interrupted(*args):
    task = waiting(*args)
    signal.raise_signal(signal.SIGINT)
    return task
portal._running.portal.start_task_soon = interrupted
ended = threading.Event()
async def work():
    try:
        await anyio.sleep(600)
    finally:
        ended.set()
try:
    portal.call(work)
except KeyboardInterrupt:
    portal._running.portal.start_task_soon = waiting
    print("interrupted")
"""


def test_ctrl_c_while_a_call_is_handed_over_does_not_hang_the_program():
    """The signal can come before there is a future; the work is cancelled at exit all the same."""
    done = run_script(HANDED_OVER, timeout=20)

    assert done.stdout.strip() == "interrupted", done.stderr


def test_cancelling_the_future_cancels_the_work():
    """`portal.start` hands out a future; cancelling it reaches the coroutine."""
    seen = threading.Event()

    async def work():
        try:
            await anyio.sleep(30)
        finally:
            seen.set()

    future = portal.start(work)
    started = time.monotonic()
    future.cancel()

    assert seen.wait(5)
    assert time.monotonic() - started < 5


def test_closing_a_router_closes_what_it_left_idle(faulty_server):
    """A `with` block leaves no connection open."""
    with scillm.Router() as router:
        router.completion("openai/m", MESSAGES, api_base=faulty_server.base_url)
        assert faulty_server.open_connections == 1

    faulty_server.wait_until(lambda: faulty_server.open_connections == 0)


def test_sync_and_async_callers_do_not_share_connections_across_loops(faulty_server):
    """One Router serves both, each loop with connections of its own."""
    router = scillm.Router()
    call = ("openai/m", MESSAGES)

    async def main():
        async with router:
            return await router.acompletion(*call, api_base=faulty_server.base_url)

    assert router.completion(*call, api_base=faulty_server.base_url).text == "echo:hi"
    assert anyio.run(main).text == "echo:hi"
    assert router.completion(*call, api_base=faulty_server.base_url).text == "echo:hi"
    assert faulty_server.connections == 2
    router.close()
