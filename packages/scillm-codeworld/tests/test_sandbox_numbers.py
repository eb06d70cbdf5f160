"""The numbers of system calls are the kernel's own, for both processors, read from its headers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from scillm_codeworld.sandbox.inside import filters
from scillm_codeworld.sandbox.inside.numbers import AUDIT, TABLES
from support.hostile import MORE_NUMBERS

INCLUDE = Path("/usr/include")
HEADERS = {
    "x86_64": INCLUDE / "x86_64-linux-gnu" / "asm" / "unistd_64.h",
    "aarch64": INCLUDE / "asm-generic" / "unistd.h",
}
"""aarch64 has the generic table; that lies on every machine, the other on its own kind only."""
ELF_MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}


def read(path):
    """A kernel header; skips where there are none."""
    if not path.is_file():
        pytest.skip(f"{path} is not here (Debian's package linux-libc-dev has it)")
    return path.read_text(encoding="utf-8")


def numbers(machine):
    """Name → number, as the header defines them for 64 bits."""
    found = {}
    plain, sizes, by_size = read(HEADERS[machine]).partition("#if __BITS_PER_LONG == 64 && !")
    text = plain + sizes + by_size.partition("#else")[0]  # what follows is for 32 bits
    for name, value in re.findall(r"^#define __NR_?(\w+)\s+(\w+)", text, re.M):
        found[name] = int(value) if value.isdigit() else found.get(value.removeprefix("__NR"))
    return {name: number for name, number in found.items() if number is not None}


@pytest.mark.parametrize("machine", sorted(TABLES))
def test_every_number_is_the_kernel_s(machine):
    """Those of the filter, and those the hostile programs try."""
    known = numbers(machine)
    ours = {**TABLES[machine], **MORE_NUMBERS[machine]}

    assert len(ours) > 150
    assert {name: number for name, number in ours.items() if known.get(name) != number} == {}


@pytest.mark.parametrize("machine", sorted(TABLES))
def test_a_processor_s_name_in_a_filter_is_the_kernel_s(machine):
    """AUDIT_ARCH_…: the number of its ELF files, 64 bits, little end first (linux/audit.h)."""
    machines = read(INCLUDE / "linux" / "elf-em.h")
    audit = read(INCLUDE / "linux" / "audit.h")
    elf = int(re.search(rf"#define {ELF_MACHINES[machine]}\s+(\d+)", machines)[1])
    bits = [
        int(re.search(rf"#define __AUDIT_ARCH_{name}\s+(0x\w+)", audit)[1], 16)
        for name in ("64BIT", "LE")
    ]

    assert AUDIT[machine] == elf | bits[0] | bits[1]


@pytest.mark.parametrize("machine", sorted(TABLES))
def test_what_a_profile_allows_is_known_for_its_processor(machine):
    """A call without a number would be denied in silence: only those the processor never had."""
    known = numbers(machine)
    names = {
        name
        for rules in (filters.runtime_rules(1), filters.build_rules(1))
        for name, _ in rules
        if name not in TABLES[machine]
    }

    assert {name for name in names if name in known} == set()
