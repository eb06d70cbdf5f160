"""The Router behind calls that name none: made at first use, or lent for a while by a session."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scillm.routing.router import Router

_lock = threading.Lock()
_made: list[Router] = []
_lent: list[Router] = []


def default_router() -> Router:
    """The Router lent last, else the process's own, made from the environment of that moment."""
    lent = _lent[-1:]
    if lent:
        return lent[0]
    if not _made:
        from scillm.routing.router import Router

        with _lock:
            if not _made:
                _made.append(Router())
    return _made[0]


def lend(router: Router) -> None:
    """From now on `router` answers the calls of this process that name none."""
    with _lock:
        _lent.append(router)


def give_back(router: Router) -> None:
    """No longer; what was lent before counts again."""
    with _lock:
        # Sessions of several threads may end in any order.
        _lent.remove(router)
