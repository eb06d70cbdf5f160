"""The filter of system calls, run by an interpreter of its own instruction set. Pure."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm_codeworld.sandbox.inside.filters import (
    ALLOW,
    ERRNO,
    KILL_PROCESS,
    NEW_NAMESPACES,
    build_rules,
    filter_bytes,
    program_rules,
    runtime_rules,
)
from scillm_codeworld.sandbox.inside.numbers import AUDIT, TABLES

PID = 4321
EPERM, ENOSYS = ERRNO | 1, ERRNO | 38
PROFILES = {
    "program": program_rules(PID, writing=True),
    "reader": program_rules(PID, writing=False),
    "runtime": runtime_rules(PID),
    "build": build_rules(PID),
}
FORBIDDEN = {
    "x86_64": {
        "socket": 41, "connect": 42, "bind": 49, "ptrace": 101, "unshare": 272, "setns": 308,
        "mount": 165, "bpf": 321, "io_uring_setup": 425, "keyctl": 250, "add_key": 248,
        "process_vm_readv": 310, "process_vm_writev": 311, "open_by_handle_at": 304,
        "perf_event_open": 298, "userfaultfd": 323, "pidfd_getfd": 438, "shmget": 29,
        "msgget": 68, "semget": 64, "init_module": 175, "kexec_load": 246, "reboot": 169,
        "rt_sigqueueinfo": 129, "pidfd_send_signal": 424, "chroot": 161, "pivot_root": 155,
    },
    "aarch64": {
        "socket": 198, "connect": 203, "bind": 200, "ptrace": 117, "unshare": 97, "setns": 268,
        "mount": 40, "bpf": 280, "io_uring_setup": 425, "keyctl": 219, "add_key": 217,
        "process_vm_readv": 270, "process_vm_writev": 271, "open_by_handle_at": 265,
        "perf_event_open": 241, "userfaultfd": 282, "pidfd_getfd": 438, "shmget": 194,
        "msgget": 186, "semget": 190, "init_module": 105, "kexec_load": 104, "reboot": 142,
        "rt_sigqueueinfo": 138, "pidfd_send_signal": 424, "chroot": 51, "pivot_root": 41,
    },
}  # fmt: skip
"""Numbers from the kernel's own tables (syscall_64.tbl, asm-generic/unistd.h)."""


def verdict(code, machine, number, *arguments, audit=None):
    """What the kernel would do: classic BPF over seccomp_data (linux/seccomp.h)."""
    words = [*arguments, *([0] * (6 - len(arguments)))]
    data = struct.pack("=iIQ6Q", number, audit or AUDIT[machine], 0, *words)
    program = [struct.unpack_from("=HBBI", code, place) for place in range(0, len(code), 8)]
    place = accumulator = 0
    while True:
        kind, if_so, if_not, value = program[place]
        place += 1
        if kind == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif kind == 0x54:
            accumulator &= value
        elif kind == 0x15:
            place += if_so if accumulator == value else if_not
        elif kind == 0x35:
            place += if_so if accumulator >= value else if_not
        else:
            assert kind == 0x06
            return value


CODES = {
    (profile, machine): filter_bytes(rules, machine)
    for profile, rules in PROFILES.items()
    for machine in TABLES
}


@given(
    st.sampled_from(sorted(CODES)),
    st.integers(0, 2**31 - 1),
    st.lists(st.integers(0, 2**64 - 1), max_size=6),
)
def test_a_call_that_is_not_on_the_list_is_denied(case, number, arguments):
    """Whatever the kernel grows, a program gets EPERM for it."""
    profile, machine = case
    names = {name for name, _ in PROFILES[profile]} | {"clone3"}
    listed = {TABLES[machine][name] for name in names if name in TABLES[machine]}
    if number not in listed:
        expected = ENOSYS if number >= 0x40000000 else EPERM

        assert verdict(CODES[case], machine, number, *arguments) == expected


@pytest.mark.parametrize("case", sorted(CODES))
def test_what_reaches_others_is_denied_in_every_profile(case):
    """Sockets, traces, namespaces, keys, shared memory: not even for a compiler."""
    _, machine = case

    for name, number in FORBIDDEN[machine].items():
        assert verdict(CODES[case], machine, number, PID, PID) == EPERM, name


@pytest.mark.parametrize("case", sorted(CODES))
def test_nobody_changes_the_limit_that_keeps_the_crash_handler_away(case):
    """RLIMIT_CORE (4) stays as it is; other limits may be lowered."""
    _, machine = case
    own, other = TABLES[machine]["setrlimit"], TABLES[machine]["prlimit64"]

    assert verdict(CODES[case], machine, own, 4) == EPERM
    assert verdict(CODES[case], machine, other, 0, 4) == EPERM
    assert verdict(CODES[case], machine, own, 9) == ALLOW
    assert verdict(CODES[case], machine, other, 0, 9) == ALLOW


@pytest.mark.parametrize("case", sorted(CODES))
def test_another_processor_s_calls_end_the_program(case):
    """The 32-bit door, whose numbers mean other calls, is shut."""
    _, machine = case

    assert verdict(CODES[case], machine, 1, audit=0x40000003) == KILL_PROCESS


@pytest.mark.parametrize("machine", sorted(TABLES))
@given(pid=st.integers(0, 2**32 - 1))
def test_a_program_may_signal_itself_only(machine, pid):
    """kill, tkill and tgkill go to its own number and to no other."""
    for profile in ("program", "reader", "runtime"):
        for name in ("kill", "tkill", "tgkill"):
            found = verdict(CODES[profile, machine], machine, TABLES[machine][name], pid, 9)

            assert found == (ALLOW if pid == PID else EPERM)


@pytest.mark.parametrize("machine", sorted(TABLES))
@given(flags=st.integers(0, 2**32 - 1))
def test_no_profile_makes_a_namespace_and_no_program_a_process(machine, flags):
    """clone is for threads of a runtime and for processes of a compiler, inside their walls."""
    clone = TABLES[machine]["clone"]
    new = bool(flags & NEW_NAMESPACES)
    thread = bool(flags & 0x00010000)

    assert verdict(CODES["program", machine], machine, clone, flags) == EPERM
    assert verdict(CODES["runtime", machine], machine, clone, flags) == (
        ALLOW if thread and not new else EPERM
    )
    assert verdict(CODES["build", machine], machine, clone, flags) == (EPERM if new else ALLOW)


@pytest.mark.parametrize("machine", sorted(TABLES))
@given(pid=st.integers(0, 2**22))
def test_a_program_may_ask_about_itself_only(machine, pid):
    """Where it shares the host's processes it learns neither who is there nor what they use."""
    for profile in ("program", "reader"):
        for name in ("getpgid", "getsid", "sched_getaffinity", "prlimit64"):
            found = verdict(CODES[profile, machine], machine, TABLES[machine][name], pid, 7)

            assert found == (ALLOW if pid in (0, PID) else EPERM)
        clock = (~pid << 3 | 2) & 0xFFFFFFFF  # the processor time of a process (posix-timers.h)
        for name in ("clock_gettime", "clock_getres", "clock_nanosleep"):
            number = TABLES[machine][name]

            assert verdict(CODES[profile, machine], machine, number, clock) == EPERM
            assert all(
                verdict(CODES[profile, machine], machine, number, own) == ALLOW for own in range(8)
            )


@pytest.mark.parametrize("machine", sorted(TABLES))
@given(address=st.integers(1, 2**64 - 1))
def test_nothing_is_sent_to_an_address(machine, address):
    """No pointer passes for none, one whose lower half is zero included."""
    sendto = TABLES[machine]["sendto"]

    for profile in PROFILES:
        for place in (address, address & ~0xFFFFFFFF or 1 << 32):
            assert verdict(CODES[profile, machine], machine, sendto, 5, 0, 1, 0, place) == EPERM
        assert verdict(CODES[profile, machine], machine, sendto, 5, 0, 1, 0, 0) == ALLOW


@pytest.mark.parametrize("machine", sorted(TABLES))
def test_what_python_needs_is_allowed(machine):
    """Reading, memory, clocks, its own end."""
    for name in ("read", "write", "mmap", "openat", "futex", "exit_group", "clock_gettime"):
        for profile in PROFILES:
            assert verdict(CODES[profile, machine], machine, TABLES[machine][name]) == ALLOW


@pytest.mark.parametrize("machine", sorted(TABLES))
def test_without_a_folder_nothing_about_files_can_be_changed(machine):
    """At L2 not even the rights and times of files, which Landlock does not guard."""
    for name in ("fchmodat", "utimensat", "renameat", "unlinkat", "mkdirat", "truncate"):
        assert verdict(CODES["reader", machine], machine, TABLES[machine][name]) == EPERM


def test_a_filter_is_no_longer_than_the_kernel_takes():
    """BPF_MAXINSNS is 4096, and jumps reach 255."""
    assert all(len(code) <= 4096 * 8 for code in CODES.values())
