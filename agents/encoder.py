"""What a network sees of a scheduler: a set of requests, a set of instances, the cluster."""

from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sgym.envs import features


class Tables(NamedTuple):
    """Sizes of an observation."""

    slots: int  # K
    request: int  # F, features of a slot
    instances: int  # I
    instance: int  # G, features of an instance
    cluster: int  # H


def tables(observation_space: spaces.Space[Any]) -> Tables:
    """The sizes of an environment's observation, found from its space alone.

    Args:
        observation_space: Dict of the flat Boxes `requests`, `instances`, `cluster`.

    Raises:
        ValueError: it is no observation space of sgym.
    """
    parts = dict(observation_space.spaces) if isinstance(observation_space, spaces.Dict) else {}
    if set(parts) == set(features.TABLES):
        length = {name: int(np.prod(part.shape or ())) for name, part in parts.items()}
        request = _period(parts["requests"].low)  # type: ignore[attr-defined]
        for when in (("always",), ("always", "cluster")):
            for hint in ((), ("hint",)):
                seen = (*when, *hint)
                width = len(features.selected("instances", seen, ()))
                fits = len(features.selected("requests", seen, ())) == request
                if fits and length["instances"] % width == 0:
                    counts = length["requests"] // request, length["instances"] // width
                    return Tables(counts[0], request, counts[1], width, length["cluster"])
    raise ValueError(
        f"observation_space must be the Dict of {', '.join(features.TABLES)} that environments of "
        f"sgym have, got {observation_space}"
    )


def _period(values: np.ndarray) -> int:
    """The shortest period of a tiled row; lower bounds of a request's features have no shorter."""
    size = len(values)
    lengths = [n for n in range(1, size + 1) if size % n == 0]
    return next(n for n in lengths if np.array_equal(values, np.tile(values[:n], size // n)))


class Encoded(NamedTuple):
    """An encoded observation."""

    context: torch.Tensor  # (B, C)
    slots: torch.Tensor  # (B, K, D)
    instances: torch.Tensor  # (B, I, D)


class SetExtractor(BaseFeaturesExtractor):
    """Encodes each request and each instance alike, and pools them, whatever their number.

    For "MultiInputPolicy" with any action space. No parameter depends on the number of slots or
    of instances; empty slots change nothing.

    Args:
        observation_space: of an environment of sgym.
        width: D, numbers that encode a slot or an instance.
        context_width: C, numbers that encode the whole.
        attention: let requests see each other, by one layer of attention, before they are pooled.
        sets: give the encoded slots and instances behind the context, for per-slot heads.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        width: int = 32,
        context_width: int = 64,
        attention: bool = False,
        sets: bool = False,
    ) -> None:
        sizes = tables(observation_space)
        behind = (sizes.slots + sizes.instances) * width if sets else 0
        super().__init__(observation_space, context_width + behind)
        self.sizes, self.width, self.context_width, self.sets = sizes, width, context_width, sets
        self.request_net = _two_layers(sizes.request, width)
        self.instance_net = _two_layers(sizes.instance, width)
        self.cluster_net = nn.Sequential(nn.Linear(sizes.cluster, width), nn.Tanh())
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True) if attention else None
        self.context_net = nn.Sequential(nn.Linear(6 * width, context_width), nn.Tanh())

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """(B, features_dim): the context and, with `sets`, slots and instances one by one."""
        encoded = self.encode(observations)
        if not self.sets:
            return encoded.context
        flat = (encoded.slots.flatten(1), encoded.instances.flatten(1))
        return torch.cat((encoded.context, *flat), 1)

    def encode(self, observations: dict[str, torch.Tensor]) -> Encoded:
        """Encode observations of B moments."""
        sizes = self.sizes
        requests = observations["requests"].view(-1, sizes.slots, sizes.request)
        rows = observations["instances"].view(-1, sizes.instances, sizes.instance)
        present = requests[..., :1]  # the first feature; (B, K, 1)
        slots = self.request_net(requests)
        if self.attention is not None:
            empty = present[..., 0] == 0.0
            empty = empty & ~empty.all(1, keepdim=True)  # attention to nothing at all is undefined
            seen, _ = self.attention(
                slots, slots, slots, key_padding_mask=empty, need_weights=False
            )
            slots = slots + seen
        slots = slots * present
        instances = self.instance_net(rows)
        asks = (instances * rows[..., :1]).sum(1)  # the first feature; zeros at a placement
        pooled = (
            slots.sum(1) / present.sum(1).clamp(min=1.0),
            torch.where(present > 0, slots, -1.0).amax(1),
            instances.mean(1),
            instances.amax(1),
            asks,
            self.cluster_net(observations["cluster"]),
        )
        return Encoded(self.context_net(torch.cat(pooled, 1)), slots, instances)

    def split(self, flat: torch.Tensor) -> Encoded:
        """What `forward` has put together, with `sets`."""
        sizes, width, start = self.sizes, self.width, self.context_width
        middle = start + sizes.slots * width
        return Encoded(
            flat[:, :start],
            flat[:, start:middle].view(-1, sizes.slots, width),
            flat[:, middle:].view(-1, sizes.instances, width),
        )


def _two_layers(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())
