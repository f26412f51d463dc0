"""Does an exported policy say in an engine what it said in the gym, and how long does it take?

Question: on how many of 10,000 recorded states per policy does `PolicyRuntime`, which sees only an
EngineView and has only numpy and onnxruntime, say anything else than the environment's kernels do
with the same policy? Does a decision take at most 100 us at 64 requests (median) and 1 ms at 128
(99th percentile), in CPU time?

    python experiments/export_runtime/run.py [--states 10000] [--out DIR]

Two minutes on one core. Compared bit by bit: every score of every request, who is preempted, token
budget, caps and reserve, and the order of the waiting queue after the Steering. `differ_alone`
counts the states in which the answer is another one if the engine does not know of readers whose
requests were refused, whom the environment counts. Policies: the
zoo's, at both rates of their entries; untrained networks and random linear ones for the actions
that the zoo lacks; schedulers that come with sgym, against their kernels.
"""

import argparse
import copy
import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
import torch

from agents.entry import load_entry
from agents.learner import POLICY_CLASSES
from agents.onnx_files import linear_action
from agents.torch_graph import onnx_of
from experiments.export_runtime.states import carried_out, differences, views
from sgym.export import (
    BuiltinManifest,
    EngineView,
    PolicyRuntime,
    describe,
    load_bundle,
    write_builtin,
    write_bundle,
    zoo_bundles,
)
from sgym.export.heuristics import EXPORTABLE
from sgym.policies import orders
from sgym.policies.registry import POLICIES, policy_record

HERE = Path(__file__).parent
OF_CLUSTERS = ("router_8b", "disaggregated_8b")  # no engine can play these
SCENARIO, RATE = "llama8b-a100-tiers", 14.4
SIZES = (16, 64, 128, 256)  # requests
SHARES = 0.6  # of the requests run
TIMED = 4000  # decisions for each size


def network(folder: Path, action: str, num_slots: int, seed: int) -> tuple[Path, Any]:
    """A bundle of an untrained network (per-slot heads over DeepSets), and its environment."""
    env: Any = gym.make(
        "sgym/Colocated-v0",
        scenario=SCENARIO,
        overrides={"workload.rate": RATE, "episode.duration": 60.0},
        action=action,
        num_slots=num_slots,
        disable_env_checker=True,
    ).unwrapped
    if action == "index":
        random, width = np.random.default_rng(seed), env.observation_space["cluster"].shape[0]
        numbers = env.action_space.shape[0]
        weights, bias = random.normal(size=(numbers, width)) * 0.5, random.normal(size=numbers)
        model = linear_action(weights, bias * 0.3, {"cluster": width})
    else:
        torch.manual_seed(seed)
        kind = POLICY_CLASSES["ppo" if action == "scores" else "ppo_mask"]
        policy = kind(env.observation_space, env.action_space, lambda _: 0.0)
        with torch.no_grad():  # untrained heads say nearly the same of all
            for name, weights in policy.action_net.named_parameters():
                weights.mul_(100.0 if "whole" in name or "last.weight" in name else 1.0)
        model = onnx_of(policy)
    name = f"{action}-{num_slots}"
    return write_bundle(folder / name, model, describe(env, name)), env


def bundles(folder: Path) -> list[tuple[str, Path, list[Any]]]:
    """Label, bundle and environments of each policy with a network."""
    found = []
    for name, place in zoo_bundles().items():
        if name in OF_CLUSTERS:
            continue
        entry = load_entry(name)[1]
        bundle = load_bundle(place)
        found.append(
            (f"zoo:{name}", place, [bundle.environment(entry.loaded(r)) for r in entry.rates])
        )
    for action, slots in (("knobs", 64), ("slots", 64), ("slots", 128), ("scores", 64)):
        place, env = network(folder, action, slots, 0)
        found.append((f"{action}, {slots} slots, untrained", place, [env]))
    place, env = network(folder, "index", 64, 1)
    found.append(("index, random", place, [env]))
    return found


def compare(label: str, place: Path, envs: list[Any], states: int) -> tuple[dict, list[EngineView]]:
    """Row of the table of comparisons, and some of the views."""
    bundle, runtime = load_bundle(place), PolicyRuntime(place)
    wrong = {"differ": 0, "waiting_order": 0, "differ_alone": 0}
    kept: list[EngineView] = []
    spent, sizes = [], []
    for env in envs:
        for view, action in views(env, bundle.policy.act, -(-states // len(envs))):
            expected, order = carried_out(env, action, view)
            started = time.thread_time_ns()
            found = runtime.decide(view)
            spent.append(time.thread_time_ns() - started)
            wrong["differ"] += bool(differences(expected, found))
            wrong["waiting_order"] += found.waiting_order(view.num_running).tolist() != order
            if view.overdue is not None:
                view.overdue = view.loss = None
                wrong["differ_alone"] += bool(differences(expected, runtime.decide(view)))
            sizes.append(len(view.rows))
            if len(sizes) % 100 == 0:
                kept.append(view)
    return row(label, sizes, wrong, spent), kept


def compare_builtin(policy: str, env: Any, folder: Path, states: int) -> dict:
    """The same for a scheduler that comes with sgym, in states under random knobs."""
    parameters = dict(POLICIES[policy].parameters)
    about = BuiltinManifest(
        name=policy, policy=policy, parameters=parameters, scenario="any", provenance={}, card=""
    )
    runtime = PolicyRuntime(write_builtin(folder / policy, about))
    record = policy_record(policy, "round_robin", parameters)
    wrong, spent, sizes = {"differ": 0, "waiting_order": 0, "differ_alone": 0}, [], []
    random = np.random.default_rng(0)

    def choose(_: Any, mask: Any) -> int:
        return int(random.choice(np.flatnonzero(mask)))

    for view, _ in views(env, choose, states):
        started = time.thread_time_ns()
        found = runtime.decide(view)
        spent.append(time.thread_time_ns() - started)
        state = env._simulator.state
        requests = [state.requests[r] for r in view.ids]
        waiting = [orders.waiting_score(record[0], state.cluster[0], one) for one in requests]
        running = [orders.running_score(record[0], one) for one in requests]
        before = int(state.instances[0]["reserve"])
        orders.reserve(state, record[0], 0)
        reserve, state.instances[0]["reserve"] = int(state.instances[0]["reserve"]), before
        wrong["differ"] += (
            waiting != found.waiting_score.tolist()
            or running != found.running_score.tolist()
            or reserve != found.reserve
        )
        sizes.append(len(view.rows))
    return row(f"builtin {policy}", sizes, wrong, spent)


def row(label: str, sizes: list[int], wrong: dict[str, int], spent: list[int]) -> dict:
    """A row of the table of comparisons."""
    times = np.array(spent) / 1e3
    return {
        "policy": label,
        "states": len(sizes),
        **wrong,
        "requests_mean": float(np.mean(sizes)),
        "requests_max": max(sizes),
        "us_p50": float(np.percentile(times, 50)),
        "us_p99": float(np.percentile(times, 99)),
    }


def resized(view: EngineView, size: int) -> EngineView:
    """The view with so many of its requests, some of them twice."""
    made = copy.copy(view)
    running = round(SHARES * size)
    head = np.resize(view.rows[: view.num_running], running)
    made.rows = np.concatenate((head, np.resize(view.rows[view.num_running :], size - running)))
    made.num_running = running
    limits = dataclasses.replace(view.limits, max_num_seqs=max(view.limits.max_num_seqs, running))
    made.limits, made.ids = limits, None
    return made


def timed(label: str, place: Path, seen: list[EngineView]) -> list[dict]:
    """Rows of the table of times: CPU time of a decision at each size."""
    runtime = PolicyRuntime(place)
    both = [view for view in seen if view.num_running > 0 and view.num_waiting > 0]
    rows = []
    for size in SIZES:
        moments = [resized(view, size) for view in both[:100]]
        for view in moments:
            runtime.decide(view)
        spent = []
        for k in range(TIMED):
            view = moments[k % len(moments)]
            started = time.thread_time_ns()
            runtime.decide(view)
            spent.append(time.thread_time_ns() - started)
        low, high = np.percentile(np.array(spent) / 1e3, [50, 99])
        rows.append({"policy": label, "requests": size, "us_p50": low, "us_p99": high})
    return rows


def main() -> None:
    """Compare, measure, write both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--states", type=int, default=10_000, help="per policy [10000]")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for the tables")
    given = parser.parse_args()
    torch.set_num_threads(1)
    compared, times = [], []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for label, place, envs in bundles(folder):
            one, seen = compare(label, place, envs, given.states)
            compared.append(one)
            times += timed(label, place, seen)
            print(f"{label}: {one['differ']} of {one['states']} states differ", flush=True)
        env = network(folder, "knobs", 8, 0)[1]
        for policy in EXPORTABLE:
            if policy != "vllm-priority":  # its kernel is a mode of the engine
                one = compare_builtin(policy, env, folder, given.states // 5)
                compared.append(one)
                print(f"{one['policy']}: {one['differ']} of {one['states']} differ", flush=True)
    pd.DataFrame(compared).round(1).to_csv(given.out / "parity.csv", index=False)
    pd.DataFrame(times).round(1).to_csv(given.out / "times.csv", index=False)
    print(pd.DataFrame(compared).round(1).to_string(index=False))
    table = pd.DataFrame(times).pivot_table(
        index="policy", columns="requests", values=["us_p50", "us_p99"], sort=False
    )
    print(table.round(0).to_string())


if __name__ == "__main__":
    main()
