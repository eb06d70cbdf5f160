"""The Lean process of tactic mode: the checker's first part, and a program of its own."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from attrs import evolve
from scillm.errors import ProverError

from scillm_certainly.backends.choose import SOURCE
from scillm_certainly.backends.worker import START_S, Worker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scillm.records import Json

    from scillm_certainly.backends.lines import Lines
    from scillm_certainly.backends.records import Backend

OWN = SOURCE.with_name("dialogue.lean")
MARK = "/-! Here the checker's own part begins;"


def program() -> str:
    """The text that Lean is given: what it shares with the checker stands there above a mark."""
    shared, mark, _ = SOURCE.read_text(encoding="utf-8").partition(MARK)
    if not mark:
        raise ProverError(f"{SOURCE} lacks the mark that tactic mode looks for: {MARK}")
    return shared + OWN.read_text(encoding="utf-8")


def written_program() -> Path:
    """The program in a file of its own, which a sandbox's user can read: it is no secret."""
    descriptor, name = tempfile.mkstemp(prefix="certainly-", suffix=".lean")
    os.fchmod(descriptor, 0o644)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(program())
    return Path(name)


def running(backend: Backend, file: Path) -> Backend:
    """`backend` with another program in the checker's place."""
    old, new = str(SOURCE), str(file)
    return evolve(
        backend,
        source=new,
        command=[new if word == old else word for word in backend.command],
        environment={
            name: new if value == old else value for name, value in backend.environment.items()
        },
    )


class DialogueWorker(Worker):
    """A Lean that is told tactics. Remembers the file with its program until it is ready."""

    def __init__(self, backend: Backend, file: Path, process: Lines) -> None:
        super().__init__(backend, process)
        self._file = file

    async def ready(self, *, within_s: float = START_S) -> None:
        """Wait until it listens; raises `ProverError` with what it said when it never does."""
        try:
            await super().ready(within_s=within_s)
        finally:
            # Lean reads its program once; a wait that was cancelled is waited for again.
            if self.is_ready or not self.alive:
                self._file.unlink(missing_ok=True)

    async def ask(
        self, request: Mapping[str, Json], *, left_s: float, time_s: float
    ) -> Mapping[str, Json]:
        """The answer to one request; `ProverError`, and the end of the process, when it fails.

        `left_s` is what is left of the `time_s` that it has together with requests before it.
        """
        self.checks += 1
        nonce = secrets.token_hex(16)
        asked = {**request, "id": self.checks, "nonce": nonce}
        try:
            with anyio.fail_after(left_s):
                await self.process.write(json.dumps(asked).encode() + b"\n")
                told = await self._answer(nonce)
        except TimeoutError as error:
            self.close()
            raise ProverError(f"Lean was not done within {time_s:g} s, and was ended.") from error
        except BaseException:
            # Whatever it is in the middle of, its next answer would not be ours.
            self.close()
            raise
        if told.get("id") != self.checks:
            self.close()
            raise ProverError(f"Lean answered {told.get('id')!r} instead of {self.checks}.")
        if "fault" in told:
            raise ProverError(str(told["fault"]).strip())
        return told

    def close(self) -> None:
        """End the process; a second call does nothing."""
        super().close()
        self._file.unlink(missing_ok=True)
