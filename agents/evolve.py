"""Train a scorer for an entry of the zoo by CMA-ES over the native vector environment.

    python -m agents.evolve assistants_14b [--out DIR] [--jobs 2] [--heuristics]

First every heuristic of the entry is tuned by searches of the same length (`agents/tuning.py`). An
interrupted run goes on where it stopped.
"""

import argparse
import json
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from agents.entry import ZOO, Entry, load_entry, paired_by_rate
from agents.onnx_files import scorer_action
from agents.play import play
from agents.scorers import Scorer
from agents.search import Found, search, write_whole
from agents.tuning import Tuned, tune
from sgym.envs.actions import INDEX_KNOBS, reservation_of
from sgym.envs.lanes import Lanes
from sgym.envs.plan import Plan
from sgym.errors import SgymError
from sgym.export import describe, write_bundle
from sgym.profiles.profile import ProfileWarning


class Learner:
    """Scores candidates of a scorer on the workloads of some environments.

    Args:
        plans: of the environments, alike but for their scenarios.
        jobs: threads.
    """

    def __init__(self, plans: Sequence[Plan], jobs: int = 1) -> None:
        self.plans, self.jobs = list(plans), jobs
        self.scorer = Scorer.of(self.plans[0])
        self._lanes: dict[tuple[int, int], Lanes] = {}

    @classmethod
    def of(cls, entry: Entry, jobs: int = 1) -> "Learner":
        """On an entry's environment at each of its rates."""
        return cls([entry.environment(entry.loaded(rate)).plan for rate in entry.rates], jobs)

    def score(self, candidates: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
        """Smooth goodput, mean over the environments, (P, S)."""
        each = np.repeat(candidates, len(seeds), axis=0)
        found: list[np.ndarray] = []
        for place, plan in enumerate(self.plans):
            lanes = self._lanes.setdefault((place, len(each)), Lanes(plan, len(each), self.jobs))

            def choose(seen: Any, masks: np.ndarray) -> np.ndarray:
                return self.scorer.act(each, seen, masks if masks.size else None)

            values = play(lanes, list(seeds) * len(candidates), choose)
            found.append(values.reshape(len(candidates), len(seeds)))
        return paired_by_rate(found)


def start_of(learner: Learner, heuristics: Sequence[Tuned]) -> np.ndarray:
    """Where a search begins: at the base of the environment, with its limits as they were tuned."""
    plan, parameters = learner.plans[0], np.zeros(learner.scorer.size)
    base, most = plan.options.base, plan.scenario.engine
    same = [tuned for tuned in heuristics if tuned.policy == base and tuned.engine]
    if not learner.scorer.schedules or not same:
        return parameters
    tuned = same[0].as_first_found
    budget = tuned.engine["max_num_batched_tokens"] / most.max_num_batched_tokens
    seats = tuned.engine["max_num_seqs"] / most.max_num_seqs
    chunk = tuned.engine["long_prefill_token_threshold"] / most.max_num_batched_tokens
    values = {
        "reserve": (tuned.parameters.get("reservation", 0.0) - reservation_of(base)) / 0.5,
        "token_budget": np.log2(budget) / 4.0,
        "active_cap": np.log2(seats) / 6.0,
        "chunk_cap": np.log2(chunk) / 4.0,
    }
    limits = learner.scorer.parts(parameters)["limits"]
    limits[:, 0] = [values[name] for name in INDEX_KNOBS]
    return parameters


def tuned_heuristics(entry: Entry, folder: Path, jobs: int) -> list[Tuned]:
    """All heuristics of an entry at their best; kept in `heuristics.json`, and read from there."""
    file = folder / "heuristics.json"
    read = json.loads(file.read_text("utf-8")) if file.exists() else {}
    kept = {policy: Tuned(**tuned) for policy, tuned in read.items()}
    for policy in entry.heuristics:
        before = kept.get(policy)
        if before is None or before.searches < entry.searches:
            started = time.process_time()
            kept[policy] = tune(entry, policy, jobs, before)
            every = {name: asdict(tuned) for name, tuned in kept.items()}
            write_whole(file, (json.dumps(every, indent=1) + "\n").encode())
            print(
                f"  {policy}: {kept[policy].default:.1f}, tuned {kept[policy].validation:.1f}, "
                f"{time.process_time() - started:.0f} s of CPU",
                flush=True,
            )
    return [kept[policy] for policy in entry.heuristics]


def train(name: str, entry: Entry, folder: Path, jobs: int) -> None:
    """Tune the heuristics, search for a scorer from the best of them, write the bundle."""
    heuristics = tuned_heuristics(entry, folder, jobs)
    best = max(heuristics, key=lambda tuned: tuned.validation)
    entry = with_rest(entry, heuristics, best)
    learner = Learner.of(entry, jobs)
    kept = folder / "search.state"
    found = search(learner.score, start_of(learner, heuristics), entry.search, kept, name=name)
    write_curve(folder, found, best)
    env = entry.environment(entry.loaded(entry.rates[0]))
    about = describe(
        env,
        name,
        scenario=entry.scenario,
        overrides=rest_of(entry),
        provenance={
            "command": f"python -m agents.evolve {name}",
            "method": "CMA-ES over a linear scorer (agents/scorers.py)",
            "search": entry.search.model_dump(),
            "rates": list(entry.rates),
            "overrides": entry.overrides,
            "cpu_seconds": round(found.seconds, 1),
            "evaluations_per_rate": entry.search.evaluations,
            "validation": round(found.score, 3),
            "best_heuristic": best.label,
            "best_heuristic_validation": round(best.validation, 3),
            "parameters": [round(float(value), 6) for value in found.best],
        },
        card=f"{entry.about}\n\nTrained by `python -m agents.evolve {name}` at "
        f"{entry.rates[0]:g} and {entry.rates[1]:g} requests/s; see provenance for how, and "
        "agents/zoo/README.md for how good it is.",
    )
    weights = learner.scorer.parts(found.best)
    write_bundle(folder, scorer_action(learner.scorer, found.best), about, weights)
    kept.unlink()
    print(f"  best heuristic {best.label} {best.validation:.1f}, learned {found.score:.1f}")


def with_rest(entry: Entry, heuristics: Sequence[Tuned], best: Tuned) -> Entry:
    """The entry, with what the agent does not decide as it was tuned.

    That is the best heuristic where the agent only places requests, and else the estimates of the
    heuristic that its scores start from, unless the entry has its own.
    """
    if entry.env == "sgym/Router-v0":
        rest = {key: value for key, value in best.overrides.items() if key.startswith("policy")}
        return entry.model_copy(update={"overrides": {**entry.overrides, **rest}})
    estimates: dict[str, Any] = {}
    for tuned in heuristics:
        if tuned.policy == entry.arguments.get("base"):
            known = tuned.as_first_found.parameters
            estimates = {n: float(known[n]) for n in ("aging", "expected_output") if n in known}
    return entry.model_copy(update={"arguments": {**estimates, **entry.arguments}})


def rest_of(entry: Entry) -> dict[str, Any]:
    """Overrides that belong to the policy: what decides beside it."""
    policy = entry.overrides.get("policy")
    if policy is None:
        return {}
    return {f"policy.{key}": value for key, value in policy.items()}


def write_curve(folder: Path, found: Found, best: Tuned) -> None:
    """curve.csv and curve.png: validation over generations, with the best heuristic."""
    rows = pd.DataFrame(found.curve, columns=["generation", "candidates", "validation"])
    write_whole(folder / "curve.csv", rows.to_csv(index=False, float_format="%.3f").encode())
    figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
    axes.plot(rows["generation"], rows["validation"], "o-", ms=3, label="mean of the search")
    axes.axhline(best.validation, color="black", ls="--", lw=1, label=f"{best.label}, tuned")
    axes.set(
        xlabel="generation", ylabel="smooth goodput on validation, tokens/s", title=folder.name
    )
    axes.legend()
    part = folder / "curve.part.png"
    figure.savefig(part, dpi=110)
    plt.close(figure)
    part.replace(folder / "curve.png")


def main(given_arguments: Iterable[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("entries", nargs="+", help="names in agents/zoo, or paths of config.yml")
    parser.add_argument("--out", type=Path, help="folder of the results; default: the entry's own")
    parser.add_argument("--jobs", type=int, default=2, help="threads")
    parser.add_argument("--heuristics", action="store_true", help="tune the heuristics, and stop")
    chosen = parser.parse_args(None if given_arguments is None else list(given_arguments))
    if chosen.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {chosen.jobs}")
    mpl.use("Agg")
    warnings.simplefilter("ignore", ProfileWarning)
    for given in chosen.entries:
        try:
            name, entry = load_entry(given)
            folder = (chosen.out or ZOO) / name
            print(name)
            if chosen.heuristics:
                tuned_heuristics(entry, folder, chosen.jobs)
            else:
                train(name, entry, folder, chosen.jobs)
        except KeyboardInterrupt:
            raise SystemExit("stopped; the same command goes on from here") from None
        except SgymError as error:
            raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
