"""How long a call waits between two rounds when its deployments failed in different ways."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from scillm import Router
from scillm.errors import CapacityError, ProviderError, RateLimitError
from scillm.plugins.groups import PROVIDERS
from scillm.plugins.registry import Registry
from scillm.providers.echo import Echo

if TYPE_CHECKING:
    from scillm.models import Completion
    from scillm.records import ChatRequest

HELLO = [{"role": "user", "content": "Hello"}]


class Moody(Echo):
    """The model `hour` wants an hour of silence; `moment` has room at the second call."""

    calls: dict[str, int]

    async def complete(self, request: ChatRequest, /) -> Completion:
        self.calls[request.model] = self.calls.get(request.model, 0) + 1
        error: ProviderError
        if request.model == "hour":
            raise RateLimitError("in an hour", status_code=429, retry_after=3600.0)
        if self.calls[request.model] == 1:
            error = CapacityError("in a moment", status_code=503, retry_after=0.5)
            raise error
        return await super().complete(request)


def test_a_long_pause_of_one_does_not_hold_up_the_others() -> None:
    """The next round begins when the first of them may be asked again, whoever failed last."""
    moody = type("Moods", (Moody,), {"calls": {}})
    registry = Registry()
    registry.register(PROVIDERS, "moody", moody)
    rows = [
        {"model_name": "g", "litellm_params": {"model": f"moody/{model}", "order": order}}
        for order, model in enumerate(("moment", "hour"), 1)
    ]
    began = time.monotonic()
    with Router(
        model_list=rows,
        registry=registry,
        disable_cooldowns=True,
        retry_enabled=True,
        retry_base_s=0.1,
        retry_time_budget_s=20,
    ) as router:
        answer = router.completion("g", HELLO)

    assert answer.text
    assert moody.calls == {"moment": 2, "hour": 1}
    assert time.monotonic() - began < 10.0
