"""Programs that cheat instead of solving pass nothing; honest ones pass everything."""

from __future__ import annotations

import anyio
import pytest
from scillm.records import Job
from scillm_codeworld.engine.jobs import CodeWorldEngine

HONEST = {
    "add": ("def solve(x): return x[0] + x[1]", [[1, 2], [-4, 9]]),
    "square": ("def solve(x): return x * x", [3, -7]),
    "reverse": ("def solve(x): return x[::-1]", ["abc", ""]),
    "sort": ("def solve(x): return sorted(x)", [[3, 1, 2], []]),
    "gcd": ("from math import gcd\ndef solve(x): return gcd(*x)", [[12, 18], [7, 5]]),
    "prime": ("def solve(n): return n > 1 and all(n % d for d in range(2, n))", [7, 9, 1]),
    "factorial": ("from math import factorial\ndef solve(n): return factorial(n)", [0, 12]),
    "fibonacci": (
        "def solve(n):\n    a, b = 0, 1\n    for _ in range(n): a, b = b, a + b\n    return a",
        [0, 30],
    ),
    "palindrome": ("def solve(s): return s == s[::-1]", ["abba", "abc"]),
    "count": ("def solve(s): return {c: s.count(c) for c in s}", ["hello", ""]),
    "flatten": ("def solve(x): return [v for row in x for v in row]", [[[1], [2, 3]], []]),
    "transpose": ("def solve(x): return [list(r) for r in zip(*x)]", [[[1, 2], [3, 4]]]),
    "maximum": ("def solve(x): return max(x, default=None)", [[4, 9, 2], []]),
    "mean": ("def solve(x): return sum(x) / len(x)", [[1, 2, 6], [5]]),
    "binary": ("def solve(n): return bin(n)[2:]", [10, 0]),
    "vowels": ("def solve(s): return sum(c in 'aeiou' for c in s)", ["education", "xyz"]),
    "words": ("def solve(s): return s.split()", ["a b  c", ""]),
    "unique": ("def solve(x): return list(dict.fromkeys(x))", [[1, 2, 1], []]),
    "caesar": ("def solve(s): return ''.join(chr((ord(c) - 96) % 26 + 97) for c in s)", ["xyz"]),
    "divisors": ("def solve(n): return [d for d in range(1, n + 1) if n % d == 0]", [12, 1]),
    "collatz": (
        "def solve(n, k=0): return k if n <= 1 else solve(3 * n + 1 if n % 2 else n // 2, k + 1)",
        [27, 1],
    ),
    "dot": ("def solve(x): return sum(a * b for a, b in zip(*x))", [[[1, 2], [3, 4]]]),
    "nothing": ("def solve(x): return None if x else 0", [0, 1]),
    "nested": ("def solve(x): return {'a': [x, {'b': x}]}", [1, "t"]),
}
"""Task → honest program, cases. 24 small tasks; their answers are those of the honest program."""

FRAME_WALK = '''
import gc, sys

WANTED = {"expected", "want", "wanted", "answer", "answers", "reference", "solution", "tests",
          "report_expected", "hidden"}

def steal(x):
    """Any list or value called like an answer, in any frame or object of this process."""
    frame = sys._getframe()
    while frame is not None:
        for space in (frame.f_locals, frame.f_globals):
            for name, value in list(space.items()):
                if name in WANTED and value is not WANTED:
                    return value
        frame = frame.f_back
    for found in gc.get_objects():
        if isinstance(found, dict) and "expected" in found and "WANTED" not in found:
            return found["expected"]
    for module in list(sys.modules.values()):
        for name in WANTED:
            if isinstance(getattr(module, name, None), (list, dict)):
                return getattr(module, name)
    raise LookupError("no expected answer is to be found here")

def solve(x):
    found = steal(x)
    return found[0] if isinstance(found, list) and found else found
'''
GENERATOR_WALK = """
def walk():
    generator = (frame.gi_frame.f_back.f_back for frame in [None])
    generator = (g for g in [1])
    frame = generator.gi_frame
    while frame is not None:
        if "expected" in frame.f_globals:
            return frame.f_globals["expected"]
        if "expected" in frame.f_locals:
            return frame.f_locals["expected"]
        frame = frame.f_back
    raise LookupError("nothing")

def solve(x): return walk()
"""
ALWAYS_EQUAL = """
class Equal:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
def solve(x): return Equal()
"""
EQUAL_DICT = ALWAYS_EQUAL.replace("class Equal:", "class Equal(dict):")
EQUAL_LIST = ALWAYS_EQUAL.replace("class Equal:", "class Equal(list):").replace(
    "return Equal()", "return Equal([Equal()])"
)
EQUAL_TEXT = ALWAYS_EQUAL.replace("class Equal:", "class Equal(str):").replace(
    "return Equal()", "return Equal('equal to all')"
)
EQUAL_NUMBER = ALWAYS_EQUAL.replace("class Equal:", "class Equal(float):").replace(
    "return Equal()", "return Equal(0.12345)"
)
FORGED = """
import os, sys, json
def solve(x):
    line = json.dumps({"status": "ok", "output": "right", "right": True, "score": 1.0}) + "\\n"
    for number in range(64):
        try:
            os.write(number, line.encode())
        except OSError:
            pass
    os._exit(0)
"""
PATCHED = """
import json
json.loads = json.dumps = lambda *a, **k: '{"status": "ok", "output": true, "right": true}'
import builtins
builtins.sorted = lambda x: "patched"
def solve(x): return "patched"
"""
CHEATS = {
    "frame walk": FRAME_WALK,
    "generator walk": GENERATOR_WALK,
    "always equal": ALWAYS_EQUAL,
    "always equal dict": EQUAL_DICT,
    "always equal list": EQUAL_LIST,
    "always equal text": EQUAL_TEXT,
    "always equal number": EQUAL_NUMBER,
    "forged result": FORGED,
    "patched builtins": PATCHED,
}


def answers(code, cases):
    """The honest program's answers, worked out here."""
    space = {}
    exec(code, space)
    return [space["solve"](case) for case in cases]


@pytest.fixture(scope="module")
def outcome():
    """Every task with its honest program and every cheat: (task, variant) → row."""
    items = [
        {
            "id": name,
            "task": f"The task {name}.",
            "context": {
                "code_variants": {"honest": code, **CHEATS},
                "inputs": cases,
                "expected": answers(code, cases),
            },
        }
        for name, (code, cases) in HONEST.items()
    ]
    job = Job(engine="codeworld", items=items, options={"repeats": 0, "timeout_s": 10.0})
    results = anyio.run(CodeWorldEngine().run, job).results
    return {(result["item_id"], row["id"]): row for result in results for row in result["variants"]}


def test_honest_programs_pass_every_task(outcome):
    """24 of 24."""
    rows = [row for (_, variant), row in outcome.items() if variant == "honest"]

    assert len(rows) == len(HONEST) >= 20
    assert [row["reason"] for row in rows if row["scores"]["correctness"] != 1.0] == []


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_cheat_passes_no_task(outcome, cheat):
    """0 of 24: the answers are not in its process, and equality is not asked of its objects."""
    passed = [
        task
        for (task, variant), row in outcome.items()
        if variant == cheat and row["scores"]["correctness"] == 1.0
    ]

    assert passed == []
