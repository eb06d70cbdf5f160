"""What an import loads is a promise: embedding SciLLM costs nothing until it is used."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import scillm

# anyio's and attrs' own needs on older Pythons come with them.
LIGHT = {"attr", "attrs", "anyio", "typing_extensions", "exceptiongroup", "sniffio", "idna"}

PROBE = """
import json, sys
before = set(sys.modules)
{statement}
loaded = {{name.split(".")[0] for name in set(sys.modules) - before}}
print(json.dumps(sorted(loaded - set(sys.stdlib_module_names))))
"""


def loaded_by(statement):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE.format(statement=statement)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(json.loads(done.stdout)) - {"scillm"}


def test_import_scillm_loads_no_third_party_module():
    """The bare import is free."""
    assert loaded_by("import scillm") == set()


def test_router_and_completion_load_attrs_and_anyio_only():
    """Neither HTTP nor plugins nor converters are loaded before the first call."""
    assert loaded_by("from scillm import Router, completion") <= LIGHT


def test_the_whole_public_surface_stays_light():
    """Every public name can be imported without loading an HTTP library."""
    assert loaded_by("from scillm import *") <= LIGHT


def test_nothing_is_read_or_started_at_import():
    """No thread, no environment, no network: an import has no effects."""
    script = """
import os, threading
class Watched(dict):
    def __getitem__(self, key): raise AssertionError(f"read {key}")
    get = __contains__ = __getitem__
import attrs, anyio.lowlevel  # what they read is theirs
os.environ = Watched()
from scillm import *
assert threading.active_count() == 1
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )

    assert done.stdout.strip() == "done", done.stderr


@pytest.mark.parametrize("name", [*scillm.__all__, "__version__"])
def test_every_public_name_can_be_had(name):
    """`__all__`, the lazy table and the modules agree."""
    assert getattr(scillm, name) is not None
    assert name in dir(scillm)


def test_an_unknown_name_is_an_attribute_error():
    """A lazy module answers like any other."""
    with pytest.raises(AttributeError, match="nothing"):
        _ = scillm.nothing
