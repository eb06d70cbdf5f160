"""The expected answers never come near the program that is to find them."""

from __future__ import annotations

import json

import anyio
from scillm.records import Job
from scillm_codeworld.engine.jobs import CodeWorldEngine

SENTINEL = "expected-5a17c3d0"

SNOOP = '''
import gc, os, sys

def readable(path):
    try:
        with open(path, "rb") as file:
            return file.read(1_000_000).decode("utf-8", "replace")
    except OSError as error:
        return str(error)

def memory():
    """Everything in this process's own memory that can be read."""
    seen = []
    try:
        with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb") as mem:
            for line in maps:
                span, rights = line.split()[:2]
                if rights.startswith("rw"):
                    start, end = (int(part, 16) for part in span.split("-"))
                    if end - start < 8_000_000:
                        mem.seek(start)
                        try:
                            seen.append(mem.read(end - start).decode("latin-1"))
                        except OSError:
                            pass
    except OSError as error:
        return "(cannot be read: %s)" % error
    return "".join(seen)

def solve(x):
    found, frame = [], sys._getframe()
    while frame is not None:
        found.append(repr((frame.f_locals, list(frame.f_globals.items()))))
        frame = frame.f_back
    found.append(repr([o for o in gc.get_objects() if isinstance(o, (dict, list, tuple))][:3000]))
    found.append(repr((sys.argv, sys.orig_argv, dict(os.environ))))
    for name in ("environ", "cmdline", "status", "maps"):
        found.append(readable("/proc/self/" + name))
    for number in range(32):
        try:
            os.set_blocking(number, False)
            found.append(os.read(number, 1_000_000).decode("utf-8", "replace"))
        except OSError as error:
            found.append(str(error))
    found.append(memory())
    text = "".join(found)
    # Joined only now, or the search would find what it searches for.
    return {"chars": len(text), "input": "-".join(["input", "of", "this", "case"]) in text,
            "nowhere": "-".join(["nowhere", "5a17c3d0"]) in text,
            "expected": "-".join(["expected", "5a17c3d0"]) in text}
'''


def test_a_program_that_searches_its_whole_process_does_not_find_the_expected_answer():
    """Frames, objects, arguments, environment, open files, memory: the answer is in none of them.

    The search is good enough to find what *is* there: the input.
    """
    item = {
        "task": f"never shown either: {SENTINEL}",
        "metadata": {"note": SENTINEL},
        "context": {
            "code_variants": {"snoop": SNOOP},
            "inputs": ["input-of-this-case"],
            "expected": [SENTINEL],
            "report_inputs": ["input-of-this-case"],
            "report_expected": [f"{SENTINEL} of the report"],
            "hidden": {"told to the scorer alone": SENTINEL},
            "check": f"def check(i, e, o): return o == {SENTINEL!r}",
            "scoring": f"def score(t, c, o, ti): return float(o['result'] == {SENTINEL!r})",
        },
    }
    job = Job(engine="codeworld", items=[item], options={"timeout_s": 60.0})

    result = anyio.run(CodeWorldEngine().run, job)

    variant = result.results[0]["variants"][0]
    seen = variant["executions"][0]["output"]
    assert variant["status"] == "ok", json.dumps(variant, indent=1)
    assert (seen["input"], seen["nowhere"]) == (True, False)
    assert seen["expected"] is False
    assert seen["chars"] > 10_000
    assert variant["scores"]["correctness"] == 0.0
    assert variant["scores"]["aggregate"] == 0.0
    assert variant["report_executions"][0]["output"]["expected"] is False


def test_an_answer_equal_to_everything_is_not_right():
    """Answers are compared as plain JSON: an object with its own idea of equality is no answer."""
    code = (
        "class Any(dict):\n    def __eq__(self, other): return True\n    __hash__ = None\n"
        "def solve(x): return Any()"
    )
    item = {"task": "t", "context": {"code_variants": {"a": code}, "input": 1, "expected": 7}}

    result = anyio.run(CodeWorldEngine().run, Job(engine="codeworld", items=[item]))

    variant = result.results[0]["variants"][0]
    assert (variant["status"], variant["scores"]["correctness"]) == ("ok", 0.0)
    assert variant["reason"] == "wrong: answer must be 7, but is {}"
