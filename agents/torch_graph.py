"""A network of SB3 as an ONNX file with the inputs and the output that bundles have."""

import io
import warnings
from typing import Any

import torch
from gymnasium import spaces
from torch import nn

from agents.onnx_files import OPSET
from sgym.envs.features import TABLES
from sgym.errors import PolicyError


class Greedy(nn.Module):
    """What decides in a model of SB3: logits, action values, or the mean of a Box action.

    Args:
        policy: of a model of PPO, MaskablePPO or DQN.

    Raises:
        PolicyError: it is of another kind.
    """

    def __init__(self, policy: Any) -> None:
        super().__init__()
        if hasattr(policy, "lstm_actor"):
            raise PolicyError(
                "a policy with a memory (algo ppo_lstm) cannot be exported: bundles are functions "
                "of what is seen; train with ppo or ppo_mask"
            )
        self.policy, self._values = policy, hasattr(policy, "q_net")
        self.output = "action" if isinstance(policy.action_space, spaces.Box) else "logits"

    def forward(
        self, requests: torch.Tensor, instances: torch.Tensor, cluster: torch.Tensor
    ) -> torch.Tensor:
        """(B, numbers of the action)."""
        seen = {"requests": requests, "instances": instances, "cluster": cluster}
        if self._values:
            return self.policy.q_net(seen)
        features = self.policy.extract_features(seen)
        if isinstance(features, tuple):  # the actor has an extractor of its own
            features = features[0]
        return self.policy.action_net(self.policy.mlp_extractor.forward_actor(features))


def onnx_of(policy: Any) -> bytes:
    """The content of policy.onnx.

    By torch's older exporter, which needs no package beside torch.

    Args:
        policy: of a model of SB3, on the CPU.

    Raises:
        PolicyError: it cannot be exported.
    """
    network = Greedy(policy).eval()
    sizes = {name: policy.observation_space[name].shape[0] for name in TABLES}
    examples = tuple(torch.zeros(2, size) for size in sizes.values())
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that it is the older one, and of sizes it fixes
        torch.onnx.export(
            network,
            examples,
            buffer,  # type: ignore[arg-type]
            input_names=list(sizes),
            output_names=[network.output],
            dynamic_axes={name: {0: "N"} for name in (*sizes, network.output)},
            opset_version=OPSET,
            dynamo=False,
        )
    return buffer.getvalue()
