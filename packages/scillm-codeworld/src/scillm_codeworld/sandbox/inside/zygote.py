"""The zygote: a warm interpreter behind the wall that forks one confined child for each run.

It holds no secret, no descriptor but its own, and one thread. Each order on its control socket
says how much memory the run may have, and carries five descriptors: input, answers, stdout, stderr,
and a leash. When the leash's other end is closed the child is killed; when the child ends, its
account is written to the leash.

One child is always made in advance: it sits in its cell, has seen nothing, and waits for its order.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
from typing import Any, NamedTuple

from scillm_codeworld.sandbox import runner
from scillm_codeworld.sandbox.inside import cell, jail, launch, memory, syscalls, warming

ORDER_BYTES = 65_536
DESCRIPTORS = 5
LOOK_MS = {cell.RUNTIME: 10, cell.KEPT: 50}
"""How often the memory is looked at of processes that no limit of their own bounds whole: runs are
short, and what is kept is looked at for hours."""


def main(control_fd: int) -> None:
    """Get ready as ordered, say so, and serve until the other end is closed."""
    control = socket.socket(fileno=control_fd)
    order = json.loads(control.recv(ORDER_BYTES))
    try:
        room = warming.ready(order)
    except (OSError, ImportError, ValueError, jail.Refused) as error:
        control.send(json.dumps({"refused": f"{order['level']}: {error}"}).encode())
        return
    control.send(json.dumps({"up": room.holds()}).encode())
    for name in [name for name in sys.modules if name.startswith("scillm_codeworld")]:
        del sys.modules[name]  # a program must not find our modules
    gc.collect()
    gc.freeze()
    Zygote(control, room).serve()


class Spare(NamedTuple):
    """A child that waits for its order, and where that is sent."""

    pid: int
    orders: socket.socket


class Zygote:
    """Forks and reaps. Remembers which child hangs on which leash."""

    def __init__(self, control: socket.socket, room: cell.Room) -> None:
        self._control = control
        self._room = room
        self._user = (os.geteuid(), os.getegid())
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._spare: Spare | None = None
        self._problem = ""
        self._by_leash: dict[int, int] = {}
        self._by_watch: dict[int, tuple[int, int]] = {}
        self._watched: dict[int, tuple[int, int]] = {}
        """Whose memory no limit of its own bounds whole: process → what /proc calls it, and how
        many bytes it may have."""
        self._overfed: set[int] = set()
        self._unseen: set[int] = set()

    def serve(self) -> None:
        """Until the other end of the control socket is closed; then every child is killed."""
        self._make_spare()
        while True:
            pause = LOOK_MS[self._room.profile] if self._watched else None
            for number, _ in self._poll.poll(pause):
                if number == self._control.fileno():
                    if not self._take_order():
                        self._end_spare()
                        return
                elif number in self._by_watch:
                    self._account(number)
                elif number in self._by_leash:  # its other end is closed
                    os.kill(self._by_leash.pop(number), signal.SIGKILL)
                    self._poll.unregister(number)
            self._look()

    def _look(self) -> None:
        """Kill who holds more memory than it may, or is not seen any more."""
        for pid, (number, most) in self._watched.items():
            if pid in self._overfed or pid in self._unseen:
                continue
            held = memory.held_bytes(self._room.proc, number)
            if held is None or held > most:
                (self._unseen if held is None else self._overfed).add(pid)
                os.kill(pid, signal.SIGKILL)

    def _make_spare(self) -> None:
        """The child for the next order, ahead of it; without one when the kernel says no."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                pid = syscalls.clone(self._room.flags)
            except OSError as error:
                ours.close()
                self._problem = str(error)
                return
            if pid == 0:
                live(self._room, theirs.detach(), *self._user)
        self._spare = Spare(pid, ours)

    def _end_spare(self) -> None:
        if self._spare is not None:
            self._spare.orders.close()
            os.kill(self._spare.pid, signal.SIGKILL)
            os.waitpid(self._spare.pid, 0)
            self._spare = None

    def _take_order(self) -> bool:
        told, descriptors, _, _ = socket.recv_fds(self._control, 32, DESCRIPTORS)
        if len(descriptors) < DESCRIPTORS:
            for number in descriptors:
                os.close(number)
            return False
        try:
            self._start(descriptors, memory_bytes=int(told))
        finally:
            for number in descriptors[:-1]:
                os.close(number)
        return True

    def _start(self, descriptors: list[int], *, memory_bytes: int) -> None:
        leash = descriptors[-1]
        pid = self._handed_over(descriptors[:-1])
        if pid is None:
            runner.say(descriptors[1], status="sandbox_refused", reason=self._problem)
            os.close(leash)
            return
        tell(leash, pid=pid)
        watch = os.pidfd_open(pid)
        self._by_leash[leash] = pid
        self._by_watch[watch] = (pid, leash)
        if self._room.profile in LOOK_MS:
            number = memory.number_in(self._room.proc, watch)
            self._watched[pid] = (number, memory_bytes + memory.BESIDE_BYTES)
        self._poll.register(watch, select.POLLIN)
        self._poll.register(leash, select.POLLIN)

    def _handed_over(self, descriptors: list[int]) -> int | None:
        """The child that has the order: the spare, or a new one where it is gone; None for none."""
        for _ in range(2):
            if self._spare is None:
                self._make_spare()
            if self._spare is None:
                return None
            pid, orders = self._spare
            try:
                socket.send_fds(orders, [b"run"], descriptors)
            except OSError as error:  # it was ended, by the system out of memory, say
                self._problem = str(error)
                self._end_spare()
                continue
            orders.close()
            self._spare = None
            return pid
        return None

    def _account(self, watch: int) -> None:
        pid, leash = self._by_watch.pop(watch)
        self._watched.pop(pid, None)
        overfed, unseen = pid in self._overfed, pid in self._unseen
        self._overfed.discard(pid)
        self._unseen.discard(pid)
        _, status, usage = os.wait4(pid, 0)
        self._poll.unregister(watch)
        os.close(watch)
        if self._by_leash.pop(leash, None) is not None:
            self._poll.unregister(leash)
        tell(
            leash,
            code=os.waitstatus_to_exitcode(status),
            cpu_s=usage.ru_utime + usage.ru_stime,
            max_rss_kb=usage.ru_maxrss,
            overfed=overfed,
            unseen=unseen,
        )
        os.close(leash)
        if self._spare is None:  # after the run, so that its making takes nothing from the run
            self._make_spare()


def tell(leash: int, **words: float) -> None:
    """Write one line to a leash, whose other end may be gone."""
    try:
        os.write(leash, json.dumps(words).encode() + b"\n")
    except BrokenPipeError:
        return


def live(room: cell.Room, orders: int, uid: int, gid: int) -> None:
    """The child's whole life: move in, wait for the order, converse, leave. Never returns."""
    code = 1
    problems: list[Exception] = []
    refusals = (OSError, ValueError, jail.Refused)
    try:
        room = cell.stand_by(room, orders)
        try:
            cell.move_in(room, uid=uid, gid=gid)
        except refusals as error:  # told to whom the run is ordered by
            problems.append(error)
        with socket.socket(fileno=cell.ORDERS) as waiting:
            _, descriptors, _, _ = socket.recv_fds(waiting, 16, DESCRIPTORS)
            waiting.detach()
        if not descriptors:
            os._exit(0)
        cell.take_descriptors(descriptors)

        def settle(setup: dict[str, Any]) -> dict[str, Any]:
            if problems:
                raise problems[0]
            return cell.settle(
                room, memory_bytes=setup["memory_bytes"], cpu_s=setup["cpu_s"], uid=uid
            )

        if room.profile == cell.RUNTIME:
            launch.become(settle, refusals)
        elif room.profile == cell.KEPT:
            launch.keep(settle, refusals)
        else:
            runner.converse(os.fdopen(cell.INPUT, "rb"), cell.ANSWERS, settle, refusals)
        sys.stdout.flush()
        sys.stderr.flush()
        code = 0
    finally:
        os._exit(code)
