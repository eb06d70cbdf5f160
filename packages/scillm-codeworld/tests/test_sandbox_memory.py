"""The watch over memory, where /proc hides processes or counts them otherwise (Linux)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from scillm_codeworld.sandbox.inside import memory
from scillm_codeworld.sandbox.inside.jail import Refused

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

MAPPED = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
HOSTS = {
    "as usual": [],
    "each sees only its own": [
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", *MAPPED, "sh", "-c"),
        'mount -t proc -o hidepid=2 proc /proc && exec "$@"',
        "sh",
    ],
    "of a namespace around ours": ["unshare", "--pid", "--fork", "--kill-child", *MAPPED],
}
"""What /proc is like → how to start a program there."""
RUN = """
import sys
import anyio, json
from scillm.protocols import KeptProgram
from scillm.records import Limits
from scillm_codeworld.records import Program
from scillm_codeworld.sandbox import open_sandbox

GREEDY = '''
#include <string.h>
#include <sys/mman.h>
#define N (1L << 30)
int main(void) {
    char *p = mmap(0, N, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return 9;
    memset(p, 1, N);
    return 0;
}
'''


async def greedy(sandbox):
    limits = Limits(time_s=30.0, memory_mb=64)
    run = await sandbox.run(Program(code=GREEDY, language="c"), 1, limits)
    return [run.status, run.isolation.get("mem"), run.max_rss_kb]


async def hidden(sandbox):
    words = ["/bin/sh", "-c", f"exec {sys.argv[2]}/hidden 1"]
    kept = sandbox.keep(KeptProgram(argv=words, shown=[sys.argv[2]], memory_mb=64))
    await kept.started()
    await kept.read()
    return await kept.ending()


async def main():
    async with open_sandbox(require="L3", languages=("python", "c")) as sandbox:
        return await globals()[sys.argv[1]](sandbox)


print(json.dumps(anyio.run(main)))
"""


def told(host, *words):
    """What RUN says on such a host."""
    if shutil.which("gcc") is None and shutil.which("clang") is None:
        pytest.skip("no C compiler here")
    done = subprocess.run(
        [*HOSTS[host], sys.executable, "-B", "-c", RUN, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if "SandboxError" in done.stderr or done.stderr.startswith(("unshare:", "mount:")):
        pytest.skip(f"not to be had here: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("host", list(HOSTS)[1:])
def test_memory_is_watched_whatever_proc_is_like(host):
    """A program that takes 1 GiB of 64 MiB in a way no limit sees is ended early."""
    status, held, most_kb = told(host, "greedy")

    assert (status, held) == ("memory", "rlimit_data, watched")
    assert most_kb < 1 << 19


def test_what_hides_from_the_watch_is_ended_and_that_is_the_reason(tmp_path):
    """A program whose file cannot be read is not shown by such a /proc."""
    tmp_path.chmod(0o755)
    shutil.copy(shutil.which("sleep"), tmp_path / "hidden")
    (tmp_path / "hidden").chmod(0o711)

    shown = told("as usual", "hidden", str(tmp_path))
    unseen = told("each sees only its own", "hidden", str(tmp_path))

    assert shown == "it left with exit code 0"
    assert unseen == ("it was ended: its memory could not be watched, for /proc did not show it")


def test_a_proc_that_shows_no_processes_is_no_watch(tmp_path):
    """The room for such programs is refused, before any is run."""
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(Refused, match="/proc does not show our processes"):
            memory.check_watch(folder, 0)
    finally:
        os.close(folder)


def test_a_process_that_ended_holds_nothing_and_one_that_is_not_shown_is_not_taken_for_it():
    """Between its end and its reaping it is still shown; a number that nobody has is not."""
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    pidfd = os.pidfd_open(child.pid)
    try:
        number = memory.number_in(proc, pidfd)
        alive = memory.held_bytes(proc, number)
        child.send_signal(signal.SIGKILL)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
        ended = memory.held_bytes(proc, number)
        child.wait()
        gone = memory.held_bytes(proc, number)
    finally:
        child.kill()
        child.wait()
        os.close(pidfd)
        os.close(proc)

    assert alive
    assert (ended, gone) == (0, None)
