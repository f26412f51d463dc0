"""Train stock Stable-Baselines3 PPO for about a minute, and compare it with vLLM and SPF.

    python experiments/first_training/train_ppo.py

Llama-3.1-8B on an A100 with a sixth of its KV memory, under Azure's conversation lengths, above
what first come first served can take: there the order of service decides.
"""

import argparse
import time

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

import sgym

SCENARIO = {
    "name": "azure-conversation-tight",
    "cluster": {"model": "Llama-3.1-8B", "gpu": "A100-80GB"},
    "engine": {"num_gpu_blocks": 4000},
    "workload": {"rate": 8.0, "lengths": [{"dataset": "azure-conv-2023"}]},
    "slo": "paper_v2",
    "episode": {"duration": 60.0},
}
SETTINGS = {"scenario": SCENARIO, "action": "knobs", "decision": "event", "num_slots": 16}
HELD_OUT = range(1_000_000, 1_000_016)
"""Seeds of the workloads of the comparison; training draws its own."""


def returns(model: PPO | None) -> np.ndarray:
    """Smooth goodput (tokens/s) on each held-out workload; without a model, of random actions."""
    env = gym.make("sgym/Colocated-v0", **SETTINGS)
    env.action_space.seed(0)
    found = []
    for seed in HELD_OUT:
        observation, info = env.reset(seed=0, options={"workload_seed": seed})
        over = False
        while not over:
            if model is None:
                action = env.action_space.sample(mask=info["action_mask"])
            else:
                action, _ = model.predict(observation, deterministic=True)
            observation, _, terminated, truncated, info = env.step(action)
            over = terminated or truncated
        found.append(info["smooth_goodput"])
    return np.array(found)


def baseline(policy: str) -> np.ndarray:
    """The same of a built-in policy, on the same workloads."""
    return np.array(
        [sgym.simulate(SCENARIO, policy, seed).summary["smooth_goodput"] for seed in HELD_OUT]
    )


def report(name: str, values: np.ndarray, reference: np.ndarray) -> None:
    """One row: mean, and the mean paired difference to the reference with its 95 % interval."""
    gain = values - reference
    half = 2.13 * gain.std(ddof=1) / np.sqrt(len(gain))  # Student's t, 15 degrees of freedom
    print(f"{name:<22} {values.mean():8.1f}   {gain.mean():+8.1f} +- {half:.1f}", flush=True)


def main() -> None:
    """Train, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=130_000, help="decisions to train on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", help="file to save the trained model to")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("smooth goodput on 16 held-out workloads, tokens/s   (difference to vLLM, paired)")
    vllm = baseline("vllm")
    report("vllm", vllm, vllm)
    report("spf", baseline("spf"), vllm)
    report("random knobs", returns(None), vllm)

    envs = make_vec_env("sgym/Colocated-v0", n_envs=8, seed=arguments.seed, env_kwargs=SETTINGS)
    envs = VecNormalize(envs, norm_obs=False, gamma=0.99)
    model = PPO(
        "MultiInputPolicy",
        envs,
        n_steps=256,
        batch_size=512,
        n_epochs=6,
        learning_rate=5e-4,
        gamma=0.99,
        ent_coef=0.005,
        seed=arguments.seed,
        device="cpu",
    )
    report("PPO, untrained", returns(model), vllm)
    started = time.perf_counter()
    model.learn(arguments.steps)
    taken = time.perf_counter() - started
    report("PPO, trained", returns(model), vllm)
    print(f"{model.num_timesteps} decisions in {taken:.0f} s")
    if arguments.save:
        model.save(arguments.save)


if __name__ == "__main__":
    main()
