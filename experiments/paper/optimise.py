"""Where does each metric send an optimiser? The same policies, tuned for each by the same search.

A policy scores requests by a weighted sum of features on top of shortest prompt first, and sets
four limits. It sees no true output lengths, and cannot reject, but it may let requests starve.
"""

import contextlib
import hashlib
import inspect
import io
import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cells
import numpy as np
import pandas as pd
from effects import ALPHA

from agents import scorers
from agents.entry import paired_by_rate
from agents.play import play
from agents.scorers import Scorer
from agents.search import Budget, search, write_whole
from sgym import Simulator
from sgym.comparison.runs import Task
from sgym.comparison.store import Store
from sgym.config import Scenario
from sgym.envs.actions import INDEX_KNOBS
from sgym.envs.colocated import ColocatedEnv
from sgym.envs.lanes import Lanes
from sgym.loading import load_scenario
from sgym.simulator import Result

METRICS = {
    "slo_attainment": "SLO attainment",
    "goodput_tok_s": "goodput",
    "throughput_tok_s": "throughput",
    "qoe_mean": "QoE",
    "smooth_goodput": "smooth goodput",
}
"""What is optimised: equations 6, 7 and 11, tokens per second, and Andes' quality of experience."""
BESIDE = ("idle_latency_mean", "idle_latency_p99", "ttft_p99")
"""Columns of the summary that are only reported."""
BASE = "spf"  # shortest prompt first: the policy whose parameters are all 0

WAITING = ("slack", "lateness", "waited", "prompt", "token_time", "alpha")
RUNNING = ("slack", "lateness", "generated", "known", "token_time", "alpha")
"""Features with a weight, of waiting requests and of running ones; see sgym/envs/features.py."""
SIZE = len(WAITING) + len(RUNNING) + len(INDEX_KNOBS)

SETTINGS: dict[str, dict[str, Any]] = {
    "one reader": {
        "about": "Llama-3.1-8B, lengths of Azure's conversations, the paper's reader",
        "rates": (10.0, 12.0),
        "scenario": {
            "cluster": {"model": "Llama-3.1-8B", "gpu": "A100-80GB"},
            "engine": {"max_model_len": 16384},
            "workload": {"rate": 1.0, "lengths": [{"dataset": "azure-conv-2023"}]},
            "slo": {"classes": [{"token_time": 0.2, "alpha": ALPHA}]},
        },
    },
    "three readers": {
        "about": "Qwen2.5-14B with 4,000 KV blocks, writers, coders and chats",
        "rates": (3.6, 4.32),
        "scenario": {
            "cluster": {"model": "Qwen2.5-14B", "gpu": "A100-80GB"},
            "engine": {"max_model_len": 8192, "num_gpu_blocks": 4001},
            "workload": {
                "rate": 1.0,
                "lengths": [
                    {"dataset": "creation", "share": 0.4, "user_class": "writer"},
                    {"dataset": "azure-code-2023", "share": 0.4, "user_class": "coder"},
                    {"dataset": "sharegpt", "share": 0.2, "user_class": "chat"},
                ],
            },
            "slo": {
                "classes": [
                    {"name": "writer", "token_time": 0.1, "alpha": ALPHA},
                    {"name": "coder", "token_time": 0.0333, "alpha": ALPHA},
                    {"name": "chat", "token_time": 0.2, "alpha": ALPHA},
                ]
            },
        },
    },
}
"""Two rates each, 1.2 times apart: at and above the peak of smooth goodput under stock vLLM."""
DURATION = 120.0  # seconds
BUDGET = Budget(population=12, seeds=4, generations=20, check=5, validation=16)
RESTARTS = 2  # the one that validates better counts


@dataclass(frozen=True)
class Trial:
    """One search."""

    setting: str
    objective: str  # one of METRICS
    restart: int
    budget: Budget
    duration: float

    def file_in(self, folder: Path) -> Path:
        """Where its result is kept; the name changes with all that the result depends on."""
        own = (sys.modules[__name__], scorers, inspect.getmodule(search))
        runs = [
            Store(None, scenario).key(Task("", BASE, rate, 0))
            for rate, scenario in scenarios(self.setting, self.duration).items()
        ]
        basis = (self, runs, *(inspect.getsource(module) for module in own if module))
        digest = hashlib.sha256(repr(basis).encode()).hexdigest()[:12]
        name = f"search_{self.setting}_{self.objective}_{self.restart}_{digest}.json"
        return folder / name.replace(" ", "-")


def scenarios(setting: str, duration: float) -> dict[float, Scenario]:
    """Those of a setting by their rates."""
    given = SETTINGS[setting]
    return {
        rate: load_scenario(
            given["scenario"], {"workload.rate": rate, "episode.duration": duration}
        )
        for rate in given["rates"]
    }


def spread(parameters: np.ndarray, scorer: Scorer) -> np.ndarray:
    """Parameters (..., SIZE) as those of a scorer, whose other ones are 0."""
    full = np.zeros((*parameters.shape[:-1], scorer.size))
    parts = scorer.parts(full)  # views of it
    for group, names, start in (("waiting", WAITING, 0), ("running", RUNNING, len(WAITING))):
        for k, name in enumerate(names):
            place = scorer.requests.index(name)
            parts[group][..., place] = parameters[..., start + k]
    parts["limits"][..., 0] = parameters[..., -len(INDEX_KNOBS) :]
    return full


def columns_of(result: Result) -> dict[str, float]:
    """What is kept of a run."""
    summary, requests = result.summary, result.state.requests
    arrived = requests["arrival"] < result.window[1]
    unserved = float((requests["generated"][arrived] == 0).mean())
    return {name: summary[name] for name in (*METRICS, *BESIDE)} | {"unserved": unserved}


class Judge:
    """Runs policies of a setting.

    Args:
        setting: one of SETTINGS.
        duration: seconds of an episode.
    """

    def __init__(self, setting: str, duration: float) -> None:
        self.scenarios = scenarios(setting, duration)
        self.plans = {
            rate: ColocatedEnv(
                scenario, action="index", decision="event", num_slots=2, base=BASE
            ).plan
            for rate, scenario in self.scenarios.items()
        }
        self.scorer = Scorer.of(next(iter(self.plans.values())))
        self._lanes: dict[tuple[float, int], Lanes] = {}

    def runs(
        self, candidates: np.ndarray, seeds: Sequence[int]
    ) -> dict[float, list[dict[str, float]]]:
        """By rate: the columns of each candidate and seed, seeds innermost."""
        each = np.repeat(spread(candidates, self.scorer), len(seeds), axis=0)
        found = {}
        for rate, plan in self.plans.items():
            if (rate, len(each)) not in self._lanes:
                self._lanes[rate, len(each)] = Lanes(plan, len(each))
            lanes = self._lanes[rate, len(each)]
            play(
                lanes,
                list(seeds) * len(candidates),
                lambda seen, _: self.scorer.act(each, seen, None),
            )
            found[rate] = [columns_of(simulator.result()) for simulator in lanes.simulators]
        return found

    def score(self, candidates: np.ndarray, seeds: Sequence[int], objective: str) -> np.ndarray:
        """A metric, mean over the rates, (P, S)."""
        lines = self.runs(candidates, seeds).values()
        values = [np.array([row[objective] for row in line]) for line in lines]
        return paired_by_rate(values).reshape(len(candidates), len(seeds))

    def rows(self, candidate: np.ndarray, seeds: Sequence[int]) -> pd.DataFrame:
        """A row per rate and seed."""
        return _frame(self.runs(candidate[None], seeds), seeds)

    def reference(self, policy: str, seeds: Sequence[int]) -> pd.DataFrame:
        """The same of a built-in policy."""
        lines: dict[float, list[dict[str, float]]] = {}
        for rate, scenario in self.scenarios.items():
            simulator = Simulator(scenario, 0, policy, track=False)
            lines[rate] = []
            for seed in seeds:
                simulator.reset(seed)
                lines[rate].append(columns_of(simulator.run()))
        return _frame(lines, seeds)


def _frame(lines: dict[float, list[dict[str, float]]], seeds: Sequence[int]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"rate": rate, "seed": seed, **row}
            for rate, line in lines.items()
            for seed, row in zip(seeds, line, strict=True)
        ]
    )


def run_trial(trial: Trial, path: Path) -> None:
    """Search, and keep the best; the state of the search lies beside it until then."""
    warnings.simplefilter("ignore")
    judge = Judge(trial.setting, trial.duration)
    state, seed = path.with_suffix(".state"), trial.restart + 1
    with contextlib.redirect_stdout(io.StringIO()):  # its bar; there is one for all searches
        found = search(
            lambda candidates, seeds: judge.score(candidates, seeds, trial.objective),
            np.zeros(SIZE),
            trial.budget.model_copy(update={"seed": seed}),
            state,
            (-1.0, 1.0),
        )
    about = {"best": found.best.tolist(), "score": found.score}
    write_whole(path, json.dumps(about).encode())
    state.unlink()


def run_trials(trials: Sequence[Trial], folder: Path, jobs: int) -> list[dict[str, Any]]:
    """What each search found, in order; those that `folder` has are only read."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [trial.file_in(folder) for trial in trials]
    todo = [task for task in zip(trials, paths, strict=True) if not task[1].is_file()]
    cells.in_processes(run_trial, todo, jobs, "searching", len(trials) - len(todo), True)
    return [json.loads(path.read_text("utf-8")) for path in paths]
