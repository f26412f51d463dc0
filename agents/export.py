"""Write a model of agents.train as a bundle: `python -m agents.export MODEL -o BUNDLE`.

MODEL is a folder of `python -m agents.train`, of which the best model is taken. The bundle is then
played, and its decisions compared with those of the network in torch; what was found stands in the
card. Schedulers that come with sgym are exported by `sgym export`.
"""

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

import sgym
from agents.evaluation import greedy
from agents.learner import variations
from agents.torch_graph import onnx_of
from agents.trained import Trained
from sgym.envs.base import ServingEnv
from sgym.errors import PolicyError, SgymError
from sgym.export import Bundle, PolicyRuntime, describe, load_bundle, write_bundle
from sgym.export.about import RESTS

SMALL = 200_000
"""Most numbers of a network whose weights are written into policy.npz too."""
CLOSE = 1e-5
"""Largest difference between numbers of a Box action that counts as none."""


def export(source: Path, folder: Path, name: str | None = None, states: int = 300) -> Bundle:
    """Write the bundle, and compare it with the model.

    Args:
        source: of `agents.train`.
        folder: of the bundle.
        name: of the policy; none = the folder's.
        states: on which both decide.

    Raises:
        PolicyError: there is no model, it cannot be exported, or the bundle decides otherwise.
    """
    trained = Trained(source)
    model, training = trained.model, trained.training
    env = environment(trained)
    weights = {key: value.numpy() for key, value in model.policy.state_dict().items()}
    kept = weights if sum(value.size for value in weights.values()) <= SMALL else None
    about = describe(
        env,
        name or folder.name,
        overrides={k: v for k, v in training.overrides.items() if k.startswith(RESTS)},
        provenance={
            "command": f"python -m agents.export {source.name}",
            "training": training.model_dump(mode="json"),
            "steps": int(model.num_timesteps),
        },
        card=card_of(trained, env, source),
    )
    write_bundle(folder, onnx_of(model.policy), about, kept)
    bundle = load_bundle(folder)
    different = compare(bundle, trained, env, states)
    if different:
        raise PolicyError(
            f"{folder}: {different} of {states} decisions are not those of the model: do not use "
            "it, and please report this"
        )
    return bundle


def environment(trained: Trained) -> ServingEnv:
    """The environment that the model was trained in, the first if there were several."""
    training, first = trained.training, variations(trained.training)[0]
    arguments = dict(training.env_kwargs)
    source = first.scenario or training.scenario
    if source is not None:
        arguments["scenario"] = source
    overrides = {**training.overrides, **first.overrides}
    made: Any = gym.make(
        training.env, overrides=overrides, disable_env_checker=True, **arguments
    ).unwrapped
    return made


def compare(bundle: Bundle, trained: Trained, env: ServingEnv, states: int) -> int:
    """Play under the bundle; in how many states the model decides otherwise.

    Args:
        bundle: what was written.
        trained: what it was written from.
        env: where both decide.
        states: decisions.
    """
    choose, different, over = greedy(trained.model), 0, True
    seen: dict[str, Any] = {}
    masked = env.plan.layout.mask_length > 0
    for k in range(states):
        if over:
            seen, _ = env.reset(seed=k)
        masks = env.action_masks() if masked else None
        own = bundle.policy.act(seen, masks)
        rows = {part: value[None] for part, value in seen.items()}
        theirs = choose(rows, None if masks is None else masks[None], np.zeros(1, np.bool_))[0]
        different += not np.allclose(own, theirs, rtol=0.0, atol=CLOSE)
        seen, _, terminated, truncated, _ = env.step(own)
        over = terminated or truncated
    return different


def card_of(trained: Trained, env: ServingEnv, source: Path) -> str:
    """What the policy is for, how good it was on workloads kept aside, its limits."""
    training = trained.training
    options = env.plan.options
    said = (
        f"{training.algo} with {training.policy}, {options.action} by {options.decision}, "
        f"trained on {env.scenario.name}"
    )
    how = (
        f"Trained for {trained.model.num_timesteps} steps by `python -m agents.train`; the "
        "settings are in bundle.json under provenance."
    )
    limits = (
        "Limits: nothing is known of other models, GPUs, loads or kinds of requests than those "
        f"it was trained on, and it sees {options.num_slots} requests at a time."
    )
    good = _gains(source, training.evaluation.reference, training.evaluation.seeds)
    return "\n\n".join([said, how, *good, limits])


def _gains(source: Path, reference: str, seeds: int) -> list[str]:
    path = source / "evaluations.csv"
    if not path.is_file():
        return ["How good it is was not measured."]
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    gains: dict[str, list[float]] = {}
    for row in rows:
        gains.setdefault(row["steps"], []).append(float(row["gain"]))
    best = max(gains, key=lambda steps: float(np.mean(gains[steps])))
    return [
        f"On {seeds} workloads kept aside of scenario {row['scenario']}: "
        f"{float(row['smooth_goodput']):.1f} tokens/s smooth goodput, "
        f"{float(row['gain']):+.1f} +- {float(row['standard_error']):.1f} against {reference}. It "
        "was chosen by this number, which therefore flatters it."
        for row in rows
        if row["steps"] == best
    ]


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and export; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m agents.export", description="Export a model.")
    parser.add_argument("model", type=Path, help="folder of python -m agents.train")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--name", help="of the policy, instead of the folder's")
    parser.add_argument("--states", type=int, default=300, help="compared with the model [300]")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        bundle = export(given.model, given.output, given.name, given.states)
        engine = str(PolicyRuntime(bundle)) if bundle.about.environment.action != "route" else ""
    except SgymError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{given.output}: {given.states} decisions as the model's; sgym {sgym.__version__}")
    print(engine or "it chooses instances, so engines cannot load it; sgym.simulate can")
    return 0


if __name__ == "__main__":
    sys.exit(main())
