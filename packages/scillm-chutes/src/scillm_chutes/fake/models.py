"""The fake's models, and the rows they make in `/v1/models` and `/chutes/utilization`."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from typing import Any

from attrs import define, field

STREAM_FAULTS = frozenset(
    {"bare error", "no end", "reset", "slow first byte", "split text", "comments"}
)
WHOLE_FAULTS = frozenset({"no choices", "gzip", "reset", "slow first byte"})


@define(kw_only=True)
class FakeModel:
    """One chute. Remembers how many calls it serves, and the faults still to come.

    `state` is hot, cold, disabled or maintenance. `faults` are names from STREAM_FAULTS and
    WHOLE_FAULTS, or `Refusal`s; each is used once.
    """

    id: str
    state: str = "hot"
    instances: int = 3
    concurrency: int = 8
    latency_s: float = 0.0
    features: tuple[str, ...] | None = ("json_mode", "tools", "structured_outputs")
    inputs: tuple[str, ...] | None = ("text",)
    outputs: tuple[str, ...] | None = ("text",)
    price: tuple[float, float] = (0.1, 0.4)
    """Dollars per million tokens, in and out."""
    context: int = 40_960
    public: bool = True
    in_catalog: bool = True
    in_feed: bool = True
    used: float = 0.3
    refused_5m: float = 0.0
    refused_1h: float = 0.0
    warms_in_s: float = 30.0
    warm_at: float | None = None
    faults: deque[Any] = field(factory=deque)
    busy: int = 0

    @property
    def chute_id(self) -> str:
        """A stable uuid-like id."""
        text = hashlib.sha256(self.id.encode()).hexdigest()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:32]}"

    @property
    def slug(self) -> str:
        """The host name of the chute."""
        kept = "".join(c if c.isalnum() else "-" for c in f"chutes-{self.id}".lower())
        return kept[:58]

    @property
    def template(self) -> str:
        """What serves it: vllm for words, tei for vectors, diffusion for images."""
        made = self.outputs or ()
        if "embedding" in made:
            return "tei"
        return "diffusion" if "image" in made else "vllm"

    @property
    def active(self) -> int:
        """Instances that serve."""
        return self.instances if self.state == "hot" else 0

    def catalog_row(self) -> dict[str, Any]:
        """The row of `/v1/models`."""
        dollars_in, dollars_out = self.price
        row: dict[str, Any] = {
            "id": self.id,
            "root": self.id,
            "object": "model",
            "created": 1_771_393_340,
            "parent": None,
            "owned_by": "sglang",
            "chute_id": self.chute_id,
            "price": {
                "input": {"usd": dollars_in, "tao": dollars_in / 191.0},
                "output": {"usd": dollars_out, "tao": dollars_out / 191.0},
            },
            "pricing": {"prompt": dollars_in, "completion": dollars_out},
            "max_model_len": self.context,
            "confidential_compute": self.id.endswith("-TEE"),
        }
        if self.features is not None:
            row["supported_features"] = list(self.features)
            row["context_length"] = row["max_output_length"] = self.context
            row["quantization"] = "bf16"
        if self.inputs is not None:
            row["input_modalities"] = list(self.inputs)
        if self.outputs is not None:
            row["output_modalities"] = list(self.outputs)
        return row

    def feed_row(self, now: float) -> dict[str, Any]:
        """The row of `/chutes/utilization`, measured at Unix time `now`."""
        requests = 1000.0 * max(self.instances, 1)
        return {
            "chute_id": self.chute_id,
            "name": self.id if self.public else "[private chute]",
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + ".123456",
            "utilization_current": self.used,
            "utilization_5m": self.used,
            "utilization_15m": self.used,
            "utilization_1h": self.used,
            "rate_limit_ratio_5m": self.refused_5m,
            "rate_limit_ratio_15m": max(self.refused_5m, self.refused_1h / 2),
            "rate_limit_ratio_1h": self.refused_1h,
            "total_requests_1h": requests,
            "completed_requests_1h": requests * (1 - self.refused_1h),
            "rate_limited_requests_1h": requests * self.refused_1h,
            "instance_count": self.instances,
            "action_taken": "no_action",
            "target_count": self.instances,
            "effective_multiplier": None,
            "total_instance_count": self.instances,
            "active_instance_count": self.active,
            "scalable": False,
            "scale_allowance": 0,
            "avg_busy_ratio": self.used,
            "total_invocations": requests,
            "total_rate_limit_errors": requests * self.refused_1h,
        }


def default_models() -> list[FakeModel]:
    """A catalog with the oddities of the real one; the ids are invented, as real ones churn."""
    return [
        FakeModel(id="acme/Alder-3-32B", used=0.4, instances=8),
        FakeModel(id="acme/Alder-3-32B-Base", features=(), used=0.1),
        FakeModel(id="birch-ai/Birch-V3.1-TEE", used=0.2, instances=6, price=(0.3, 1.0)),
        FakeModel(id="cedar/Cedar-4.6V", inputs=("text", "image"), used=0.3),
        FakeModel(id="dogwood/Dogwood-K2-Instruct-0905", features=None, inputs=None, outputs=None),
        FakeModel(id="elm/Elm-8B", features=("structured_output",), price=(0.02, 0.05)),
        FakeModel(id="fir/Fir-R1-0528-TEE", used=0.66, refused_1h=0.475),
        FakeModel(id="gum/Gum-2-7B", state="cold", instances=0),
        FakeModel(id="hazel/Hazel-M2.1", in_feed=False),
        FakeModel(id="ivy/Ivy-Image-2", in_catalog=False, outputs=("image",)),
        FakeModel(
            id="juniper/Juniper-Embed-0.6B",
            in_catalog=False,
            inputs=("text",),
            outputs=("embedding",),
            price=(0.01, 0.0),
        ),
        FakeModel(id="someone/Private-1B", in_catalog=False, public=False),
    ]
