"""How fast environments step, alone and many at once, beside Gymnasium's CartPole.

Question: does the native vector environment step half a million environments per second with
`knobs` and 300,000 with `slots`, 256 at once, resets included? How much of the bare engine's
speed is left when an agent decides at events?

    python experiments/speed/environments.py [--out DIR] [--seconds 3] [--repeats 3] [--quick]

Steps per second are by `gymnasium.utils.performance`, which counts wall-clock time and draws each
action within it; the rows "drawn before" have their actions drawn beforehand and count CPU time.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np
import pandas as pd
from gymnasium.utils.performance import benchmark_step, benchmark_vector_step
from rich.console import Console
from rich.progress import track

import sgym
from sgym.metrics import mean_interval

HERE = Path(__file__).parent
SMALL, LARGE, SPARSE = "tiny", "llama8b-a100-mixed", "qwen14b-a100-azure-code"
CROWDED = "llama8b-h100-summaries"
SHARE = 0.9
"""Of their knee, which is the rate of their files, at which scenarios run."""
MANY = 256


def arguments(action: str, decision: str, slots: int, scenario: str = SMALL) -> dict:
    """Of the environment."""
    rate = SHARE * (sgym.load_scenario(scenario).workload.rate or 1.0)
    return {
        "scenario": scenario,
        "overrides": {"workload.rate": rate},
        "action": action,
        "decision": decision,
        "num_slots": slots,
    }


def drawn_before(given: dict, threads: int, seconds: float, seed: int, verbs: str) -> dict:
    """Steps and engine iterations per CPU-second of the vector environment, resets included.

    It is measured once each environment has ended an episode: at first all stand at the quick
    beginning of one. With `verbs` neutral, nothing is asked of any request.
    """
    env = gym.make_vec("sgym/Colocated-v0", MANY, copy=False, threads=threads, **given)
    env.action_space.seed(seed)
    drawn = [env.action_space.sample() for _ in range(32)]
    if verbs == "neutral":
        drawn = [np.zeros_like(action) for action in drawn]
    env.reset(seed=seed)
    lanes, ended = env.unwrapped._lanes, np.zeros(MANY, np.bool_)
    while not ended.all():
        for actions in drawn:
            _, _, terminated, truncated, _ = env.step(actions)
            ended |= terminated | truncated
    last, iterations, steps, passed, waited = _iterations(lanes), 0, 0, 0.0, 0.0
    while passed < seconds:
        start, wall = time.process_time(), time.perf_counter()
        for actions in drawn:
            env.step(actions)
        passed += time.process_time() - start
        waited += time.perf_counter() - wall
        steps += len(drawn) * MANY
        now = _iterations(lanes)
        iterations += int(np.where(now >= last, now - last, now).sum())
        last = now
    env.close()
    return {
        "steps_per_cpu_s": steps / passed,
        "steps_per_s": steps / waited,
        "iterations_per_cpu_s": iterations / passed,
    }


def _iterations(lanes) -> np.ndarray:
    return np.array([int(one.state.cluster[0]["iterations"]) for one in lanes.simulators])


def bare_engine(name: str, seconds: float, seed: int) -> float:
    """Engine iterations per CPU-second of a scenario without an agent, summary left out."""
    given = arguments("knobs", "event", 64, name)
    simulator = sgym.Simulator(sgym.load_scenario(name, given["overrides"]), track=False)
    iterations, episode, start = 0, 1000 * seed, time.process_time()
    while time.process_time() - start < seconds:
        simulator.reset(episode)
        simulator.run()
        iterations += int(simulator.state.cluster[0]["iterations"])
        episode += 1
    return iterations / (time.process_time() - start)


def gymnasium_rows(seconds: float) -> list[tuple[str, Callable[[int], float]]]:
    """Name and measurement of everything that Gymnasium's own benchmark measures."""
    own = arguments("knobs", "iteration", 64)

    def single(env_id: str, **given) -> Callable[[int], float]:
        return lambda seed: benchmark_step(gym.make(env_id, **given), seconds, seed)

    def many(env_id: str, count: int, mode: str | None = None, **given) -> Callable[[int], float]:
        def measure(seed: int) -> float:
            env = gym.make_vec(env_id, count, vectorization_mode=mode, **given)
            found = benchmark_vector_step(env, seconds, seed)
            env.close()
            return found

        return measure

    return [
        ("CartPole-v1, single", single("CartPole-v1")),
        ("CartPole-v1, 8 by SyncVectorEnv", many("CartPole-v1", 8, "sync")),
        ("CartPole-v1, 256 native", many("CartPole-v1", MANY)),
        ("sgym knobs, single", single("sgym/Colocated-v0", **own)),
        ("sgym knobs, 8 by SyncVectorEnv", many("sgym/Colocated-v0", 8, "sync", **own)),
        ("sgym knobs, 256 native", many("sgym/Colocated-v0", MANY, **own)),
        ("sgym slots, 256 native", many("sgym/Colocated-v0", MANY, **(own | {"action": "slots"}))),
        ("sgym router, 256 native", many("sgym/Router-v0", MANY)),
    ]


def main() -> None:
    """Run all benchmarks, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="only checks that it runs")
    chosen = parser.parse_args()
    seconds, repeats = (0.1, 2) if chosen.quick else (chosen.seconds, chosen.repeats)
    found: dict[tuple[str, str], list[float]] = {}

    def add(name: str, unit: str, value: float) -> None:
        found.setdefault((name, unit), []).append(value)

    cases = [
        (SMALL, action, decision, threads, "drawn")
        for action in ("knobs", "slots")
        for decision in ("iteration", "event")
        for threads in (1, 2)
    ]
    cases.append((SMALL, "slots", "iteration", 1, "neutral"))
    cases.append((SPARSE, "slots", "iteration", 1, "drawn"))
    cases += [
        (LARGE, action, decision, 1, verbs)
        for action, verbs in (("knobs", "drawn"), ("slots", "neutral"))
        for decision in ("iteration", "event")
    ]
    cases += [(CROWDED, "knobs", "event", 1, verbs) for verbs in ("drawn", "neutral")]
    for seed in range(repeats):  # one after the other, as a shared machine has slow minutes
        label = f"repetition {seed + 1} of {repeats}"
        for name, measure in track(gymnasium_rows(seconds), f"{label}, by Gymnasium's benchmark"):
            add(name, "steps_per_s", measure(seed))
        bare = {}
        for scenario in track((SMALL, LARGE, CROWDED), f"{label}, without an agent"):
            bare[scenario] = bare_engine(scenario, seconds, seed)
            add(f"{scenario}, bare engine, no agent", "iterations_per_cpu_s", bare[scenario])
        for scenario, action, decision, threads, verbs in track(cases, f"{label}, drawn before"):
            given = arguments(action, decision, 64, scenario)
            how = "drawn before" if verbs == "drawn" else verbs
            name = f"{scenario} {action}, 256 native, {how}, decision={decision}, "
            name += f"{threads} thread(s)"
            values = drawn_before(given, threads, seconds, seed, verbs)
            if decision == "event" and threads == 1:
                values["share_of_bare_engine"] = values["iterations_per_cpu_s"] / bare[scenario]
            for unit, value in values.items():
                add(name, unit, value)
    rows: list[dict] = []
    for (name, unit), values in found.items():
        mean = mean_interval(values)
        rows.append(
            {"benchmark": name, "unit": unit, "mean": mean.mean, "low": mean.low}
            | {"high": mean.high, "repeats": len(values)}
        )
    table = pd.DataFrame(rows)
    chosen.out.mkdir(parents=True, exist_ok=True)
    draft = chosen.out / "environments.csv.part"
    table.to_csv(draft, index=False, float_format="%.6g")
    draft.replace(chosen.out / "environments.csv")
    Console(width=150).print(table.to_string(index=False, float_format=lambda x: f"{x:,.4g}"))


if __name__ == "__main__":
    main()
