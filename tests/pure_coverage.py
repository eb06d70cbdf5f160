"""Branch coverage of words and decisions must be 100 %: they have no excuse.

Run after pytest with coverage; reads the combined data. Which modules these are is written once, in
the import contract that forbids them clocks and sockets. Exits 1 and lists what is missing.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]  (comes with pytest there)

CONTRACT = "Decisions see no clock, socket, environment, thread or luck"

ROOTS = {path.name: path for path in Path("packages").glob("*/src/*")}


def pure_modules() -> list[str]:
    """Names from the import contract."""
    with Path("pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (names,) = [
        contract["source_modules"] for contract in contracts if contract["name"] == CONTRACT
    ]
    return list(names)


def path_of(module: str) -> Path:
    """Where a module of the workspace lies."""
    package, _, rest = module.partition(".")
    return ROOTS[package].joinpath(*rest.split(".")).with_suffix(".py")


def main() -> int:
    """Check that the list is real, then ask coverage."""
    names = pure_modules()
    absent = [name for name in names if not path_of(name).is_file()]
    if absent:
        print(f"These modules do not exist any more: {', '.join(absent)}", file=sys.stderr)
        return 1
    paths = [path_of(name) for name in names]
    print(f"{len(paths)} modules must be covered whole")
    return subprocess.run(
        [
            sys.executable, "-m", "coverage", "report", "--show-missing", "--skip-covered",
            "--fail-under=100", f"--include={','.join(map(str, paths))}",
        ],
        check=False,
    ).returncode  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
