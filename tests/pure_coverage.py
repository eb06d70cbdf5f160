"""Branch coverage of words and decisions must be 100 %: they have no excuse.

Run after pytest with coverage; reads the combined data. Exits 1 and lists what is missing.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CORE = "packages/scillm-core/src/scillm"
PURE = (
    "batch/entries.py",
    "batch/openai_files.py",
    "batch/progress.py",
    "errors.py",
    "events.py",
    "http/decoding.py",
    "http/folding.py",
    "http/outcomes.py",
    "http/proxies.py",
    "http/sse.py",
    "models.py",
    "plugins/groups.py",
    "protocols.py",
    "providers/failures.py",
    "providers/secrets.py",
    "records.py",
    "resilience/health.py",
    "resilience/limits.py",
    "resilience/pace.py",
    "resilience/remaining.py",
    "resilience/retry.py",
    "resilience/retry_after.py",
    "routing/arguments.py",
    "routing/deployment.py",
    "routing/choose.py",
    "routing/deterministic.py",
    "routing/fallback.py",
    "routing/images.py",
    "routing/jsonmode.py",
    "routing/load.py",
    "routing/options.py",
    "routing/policy.py",
    "routing/stamps.py",
    "routing/target.py",
    "runs/canonical.py",
    "runs/cassette_rows.py",
    "runs/chain.py",
    "runs/manifest.py",
    "search/sweep.py",
    "structured/candidates.py",
    "structured/grounding.py",
    "structured/jsontext.py",
    "structured/reading.py",
    "structured/shaping.py",
    "structured/strictjson.py",
    "structured/truncation.py",
)


def main() -> int:
    """Check that the list is real, then ask coverage."""
    paths = [f"{CORE}/{name}" for name in PURE]
    absent = [path for path in paths if not Path(path).is_file()]
    if absent:
        print(f"These modules do not exist any more: {', '.join(absent)}", file=sys.stderr)
        return 1
    return subprocess.run(
        [
            sys.executable, "-m", "coverage", "report", "--show-missing", "--skip-covered",
            "--fail-under=100", f"--include={','.join(paths)}",
        ],
        check=False,
    ).returncode  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
