"""The tools that read and write files of the work folder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from anyio import to_thread
from scillm.errors import UsageError

from scillm_codex.agent.records import ToolAnswer, ToolSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scillm.records import Json

    from scillm_codex.agent.tools.folder import WorkFolder

MOST_READ = 200_000
MOST_WRITTEN = 2_000_000
MOST_NAMES = 500


def _schema(required: Sequence[str], **properties: str) -> dict[str, Json]:
    return {
        "type": "object",
        "properties": {
            name: {"type": "string", "description": words} for name, words in properties.items()
        },
        "required": list(required),
        "additionalProperties": False,
    }


PATH = "Relative to the work folder."
READ = ToolSpec(
    name="read_file",
    description="Read a text file of the work folder.",
    parameters=_schema(["path"], path=PATH),
)
WRITE = ToolSpec(
    name="write_file",
    description="Write a text file of the work folder; one that is there is replaced.",
    parameters=_schema(["path", "content"], path=PATH, content="All of the file."),
)
LIST = ToolSpec(
    name="list_files",
    description="List a folder of the work folder.",
    parameters=_schema([], path=f"{PATH} Left out: the work folder itself."),
)


class FileTools:
    """read_file, list_files and, unless it is read-only, write_file."""

    def __init__(self, folder: WorkFolder, *, read_only: bool = False) -> None:
        self._folder = folder
        self.tools = [READ, LIST] if read_only else [READ, WRITE, LIST]

    async def call(self, name: str, arguments: Mapping[str, Json], /) -> ToolAnswer:
        """Do it; see `Source`."""
        do = {"read_file": self._read, "write_file": self._write, "list_files": self._list}[name]
        try:
            return ToolAnswer(text=await to_thread.run_sync(partial(do, arguments)))
        except UsageError as error:
            return ToolAnswer(ok=False, text=f"Error: {error.message}")
        except OSError as error:
            # Its file name is only the last step, and says nothing about this machine.
            return ToolAnswer(ok=False, text=f"Error: {arguments.get('path')!r}: {error.strerror}.")

    def _read(self, arguments: Mapping[str, Json]) -> str:
        data, size = self._folder.read(arguments["path"], most_bytes=MOST_READ)
        text = data.decode(errors="replace")
        if size > len(data):
            return f"{text}\n[… only {len(data)} of {size} bytes are shown …]"
        return text or "(the file is empty)"

    def _write(self, arguments: Mapping[str, Json]) -> str:
        data = arguments["content"].encode(errors="surrogatepass")
        if len(data) > MOST_WRITTEN:
            raise UsageError(f"{len(data)} bytes are more than the {MOST_WRITTEN} of one file.")
        self._folder.write(arguments["path"], data)
        return f"Wrote {len(data)} bytes to {arguments['path']}."

    def _list(self, arguments: Mapping[str, Json]) -> str:
        names, more = self._folder.names(arguments.get("path", ""), most=MOST_NAMES)
        said = "\n".join(names) or "(the folder is empty)"
        return f"{said}\n[… and {more} more …]" if more else said
