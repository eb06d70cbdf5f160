"""Sessions in Redis, for several machines (redis-py's door here, extra `redis`)."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

from scillm.errors import StoredRunError, UsageError

from scillm_codeworld.record.plateau import signals
from scillm_codeworld.record.sessions import KEPT

if TYPE_CHECKING:
    from scillm.records import Json

SCHEMES = ("redis://", "rediss://", "unix://")
PREFIX = "scillm:codeworld:session:"
TIMEOUT_S = 5.0


class RedisSessions:
    """The sessions in the Redis at `url`. Remembers only where; several machines may write."""

    def __init__(self, url: str) -> None:
        self._url = url

    def note(
        self, session: str, track: str, *, run_id: str, value: float, at: str
    ) -> dict[str, Json]:
        """Add a run and say how the track stands; see `plateau.signals`.

        Raises `StoredRunError` when Redis cannot be reached, `UsageError` without redis-py.
        """
        try:
            from redis import Redis
            from redis.exceptions import RedisError
        except ImportError as error:
            raise UsageError(
                "Sessions in Redis need redis-py: pip install 'scillm-codeworld[redis]'."
            ) from error
        row = json.dumps({"run_id": run_id, "value": value, "at": at})
        # As JSON, so that no session's name can be taken for another's with a track.
        key = PREFIX + json.dumps([session, track])
        try:
            # One transaction: what is read is what was true when this run was added.
            with (
                closing(
                    Redis.from_url(
                        self._url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
                    )
                ) as client,
                client.pipeline(transaction=True) as together,
            ):
                together.rpush(key, row)
                together.lrange(key, -KEPT, -1)
                _, rows = together.execute()
        except (RedisError, OSError, ValueError) as error:
            raise StoredRunError(
                f"The sessions in Redis cannot be kept: {type(error).__name__}. Check the address "
                "in SCILLM_CODEWORLD_SESSIONS, which is not shown here."
            ) from error
        values = [float(json.loads(row)["value"]) for row in rows]
        return {"session_id": session, "track_id": track or None, **signals(values)}
