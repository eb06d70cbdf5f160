"""`scillm doctor`: what works in this installation, what does not, and what to do about it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import click

from scillm.cli import output
from scillm.cli.checks import all_checks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scillm.records import Check, Json

NO_FIX = "the check names no fix"


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Check this installation, its plugins and its settings.

    Nothing is sent over the network by the core's own checks, and nothing is left behind. A check
    that was not run is shown as such and does not count as passed. Exits with 1 when one fails.
    """
    # Each failing hook becomes a line of the report; the warning would say it a second time.
    log = logging.getLogger("scillm.hooks")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with output.busy("checking"):
            checks = all_checks()
    finally:
        log.setLevel(level)
    if as_json:
        output.document(described(checks))
    else:
        show(checks)
    ctx.exit(1 if any(check.ok is False for check in checks) else 0)


def status(check: Check) -> str:
    """How a check ended, in a word."""
    return {True: "ok", False: "FAILED", None: "not run"}[check.ok]


def fix(check: Check) -> str:
    """What to do about a check; only a failing one must say something."""
    return check.fix or (NO_FIX if check.ok is False else "")


def counted(checks: Sequence[Check]) -> str:
    """The last line: how many of each."""
    words = [status(check) for check in checks]
    return ", ".join(f"{words.count(word)} {word}" for word in ("ok", "FAILED", "not run"))


def described(checks: Sequence[Check]) -> dict[str, Json]:
    """The report as JSON. `ok` says that no check failed."""
    return {
        "ok": all(check.ok is not False for check in checks),
        "checks": [
            {
                "name": check.name,
                "ok": check.ok,
                "status": status(check),
                "detail": check.detail,
                "fix": fix(check),
            }
            for check in checks
        ],
    }


def show(checks: Sequence[Check]) -> None:
    """A table of all checks, then a count; on a terminal what failed is told below the table."""
    apart = output.for_terminal()
    failed = [check for check in checks if check.ok is False]
    rows = [
        (check.name, status(check), "" if apart and check.ok is False else told(check, "; "))
        for check in checks
    ]
    output.table(("check", "status", "detail"), rows)
    if apart:
        for check in failed:
            output.remark(check.name, told(check, "\n"))
    output.heading(counted(checks), style="bold red" if failed else "bold green")


def told(check: Check, separator: str) -> str:
    """What was found, and what to do about it where something is to be done."""
    advice = f"fix: {fix(check)}" if fix(check) and check.ok is not True else ""
    return separator.join(part for part in (check.detail, advice) if part)
