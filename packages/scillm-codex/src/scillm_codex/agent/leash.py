"""Runs a command that ends when we do: its input ends when whoever holds it has ended, even killed.

Run by path, standard library only: `leash.py COMMAND…`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

GRACE_S = 10.0


def main() -> int:
    """Start the command, wait for it or for the end of our input; its exit status."""
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603

    def held() -> None:
        while os.read(0, 4096):
            pass
        if child.poll() is None:
            child.terminate()

    threading.Thread(target=held, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    code = child.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
