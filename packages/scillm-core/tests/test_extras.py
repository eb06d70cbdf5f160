"""`scillm.extras`: helper names are found in whichever plugin offers them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from scillm import extras

DIST = {
    "METADATA": "Metadata-Version: 2.1\nName: helper-dist\nVersion: 1.2\n",
    "entry_points.txt": "[scillm.extras]\nshout = helper_dist:shout\n",
}


def test_a_helper_of_an_installed_plugin_is_importable(tmp_path):
    """`from scillm.extras import shout` imports the plugin that offers it."""
    info = tmp_path / "helper_dist-1.2.dist-info"
    info.mkdir()
    for name, text in DIST.items():
        (info / name).write_text(text)
    (tmp_path / "helper_dist.py").write_text("def shout(text):\n    return text.upper()\n")
    script = "from scillm.extras import shout; print(shout('hi'))"

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.stdout.strip(), done.stderr) == ("HI", "")


def test_an_unknown_helper_is_an_attribute_error_with_the_reason():
    """The message is the registry's, with near names."""
    with pytest.raises(AttributeError, match="No installed helper is called 'nothing'"):
        _ = extras.nothing
