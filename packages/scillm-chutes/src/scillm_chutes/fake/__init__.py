"""A fake Chutes on loopback: the service's hosts, refusals and streams, programmable."""

from scillm_chutes.fake.accounts import FakeAccount, new_key
from scillm_chutes.fake.models import FakeModel, default_models
from scillm_chutes.fake.replies import Refusal, Seen
from scillm_chutes.fake.server import FakeChutes

__all__ = [
    "FakeAccount",
    "FakeChutes",
    "FakeModel",
    "Refusal",
    "Seen",
    "default_models",
    "new_key",
]
