"""`record` and `replay`: a Router whose HTTP exchanges are kept in a file, or come from one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scillm.http.choice import make_transport
from scillm.plugins.settings import load
from scillm.routing.default import give_back, lend
from scillm.routing.router import Router
from scillm.runs.cassette import RecordingTransport, ReplayTransport

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Session:
    """A Router for the time of a `with` or `async with`. Remembers it and how to end.

    Meanwhile it also answers `scillm.completion` and `scillm.acompletion`, in the whole process.
    """

    def __init__(self, opened: Callable[[], tuple[Router, Callable[[], None]]]) -> None:
        self._opened = opened
        self._router: Router | None = None
        self._end: Callable[[], None] | None = None

    def __enter__(self) -> Router:
        self._router, self._end = self._opened()
        lend(self._router)
        return self._router

    def __exit__(self, *_error: object) -> None:
        router, end = self._taken()
        try:
            router.close()
        finally:
            end()

    async def __aenter__(self) -> Router:
        return self.__enter__()

    async def __aexit__(self, *_error: object) -> None:
        router, end = self._taken()
        try:
            await router.aclose()
        finally:
            end()

    def _taken(self) -> tuple[Router, Callable[[], None]]:
        router, end = self._router, self._end
        assert router is not None
        assert end is not None
        self._router = self._end = None
        give_back(router)
        return router, end


def record(path: str | Path, *, overwrite: bool = False, **router: Any) -> Session:
    """`with record("run.cassette") as router:` keeps every HTTP exchange of that Router.

    `scillm.completion` goes through it too, as long as the block lasts.

    Other arguments are `Router`'s; calls go out through its `transport`. Raises `CassetteError`
    when the file exists and `overwrite` is not given. Keys and other credentials are not kept.
    """

    def opened() -> tuple[Router, Callable[[], None]]:
        inner = router.get("transport")
        if inner is None:
            settings = router.get("settings")
            inner = make_transport(load() if settings is None else settings)
        Router(**router)  # refuses wrong arguments before there is a file
        transport = RecordingTransport(inner, path, overwrite=overwrite)
        return Router(**{**router, "transport": transport}), transport.finish

    return Session(opened)


def replay(path: str | Path, **router: Any) -> Session:
    """`with replay("run.cassette") as router:` answers from the file, without any network.

    `scillm.completion` is answered from it too, as long as the block lasts.

    Other arguments are `Router`'s and should be those of the recording. A request that was not
    recorded raises `CassetteError`, which names the nearest one that was.
    """

    def opened() -> tuple[Router, Callable[[], None]]:
        return Router(**{**router, "transport": ReplayTransport(path)}), lambda: None

    return Session(opened)
