"""The console script: says what is missing, or hands over to the commands."""

from __future__ import annotations

import sys
from importlib.util import find_spec

NEEDED = ("click", "rich")
"""What the extra `cli` brings."""

INTERRUPTED = 130
"""128 and SIGINT, as shells report it."""


def main() -> None:
    """Run `scillm` with the arguments of this process, and exit."""
    # Nothing outside the standard library may be imported above this line: a bare scillm-core
    # has the console script, but not the libraries it needs.
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        sys.stderr.write(
            f"Error: the scillm command needs {' and '.join(missing)}, "
            f"which {'is' if len(missing) == 1 else 'are'} not installed.\n"
            "Install the command line with:\n\n"
            "    pip install 'scillm-core[cli]'\n"
        )
        sys.exit(2)
    try:
        from scillm.cli.commands import run

        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
