"""Rules that charge the time of an iteration to its tokens, so that no iteration is overcharged.

A charge gives each token of an iteration some seconds, linear in what the token needs, such that
the sum never exceeds the iteration's duration. There are several, since an iteration is short of
different things: its fixed time is shared by the KV blocks in memory, by the seats of
`max_num_seqs`, or by the tokens of the budget; its GEMMs are above each tangent of their curve.
Attention and the sampler are charged alike in all of them.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sgym.core import latency as times
from sgym.core.layout import Former

Floats = NDArray[np.float64]

MACHINE = np.dtype(
    [
        ("per_prompt_token", np.float64),  # seconds, besides what the charges share out
        ("per_pair", np.float64),  # seconds per new token and KV entry that it attends to
        ("per_context", np.float64),  # seconds per KV entry, when a prefill ends
        ("per_decode", np.float64),  # seconds per decoded token
        ("per_kv", np.float64),  # seconds per KV entry of a decoding sequence
        ("block_size", np.int32),  # tokens
    ],
    align=True,
)


@dataclass(frozen=True, slots=True)
class Charges:
    """What the tokens of one instance are charged at least.

    Attributes:
        rules: (charges, 4): seconds per token, per KV block held, per sequence that samples, and
            per iteration, which its requests share as they are told to (`plans.best_plans`).
        machine: MACHINE (1,): seconds that come on top of every rule.
        lines: (lines, 2): seconds of an iteration at least, fixed and per token of its batch.
    """

    rules: Floats
    machine: np.ndarray
    lines: Floats

    def first_seconds(self, tokens: Floats, pairs: Floats, context: Floats) -> Floats:
        """Seconds to compute so many tokens of a prompt, at least, with nothing else to do."""
        row = self.machine[0]
        own = row["per_prompt_token"] * tokens + row["per_pair"] * pairs
        return self._fixed(tokens) + own + row["per_context"] * context

    def decode_seconds(self, context: Floats) -> Floats:
        """Seconds of one decode, at least, with nothing else to do."""
        row = self.machine[0]
        return self._fixed(np.ones_like(context)) + row["per_decode"] + row["per_kv"] * context

    def _fixed(self, tokens: Floats) -> Floats:
        return (self.lines[:, :1] + self.lines[:, 1:] * tokens).max(axis=0)


def charges_of(engine: np.void, latency: np.void, prompt: float, context: float) -> Charges:
    """The charges of one instance.

    Args:
        engine: its ENGINE record.
        latency: its LATENCY record.
        prompt: tokens of a typical prompt, for which the charge is made as high as possible.
        context: KV entries of a typical decoding sequence, likewise.
    """
    longest = float(engine["max_model_len"])
    bounded = engine["former"] == int(Former.VLLM_V1)
    most_tokens = float(engine["max_num_batched_tokens"]) if bounded else np.inf
    per_token, per_pair = _prefill(latency, longest, prompt)
    per_decode, per_kv = _decode(latency, float(engine["max_num_seqs"]), longest, context)
    sampler, per_sample = _sampler(latency)
    machine = np.zeros(1, MACHINE)
    machine["per_prompt_token"] = latency["per_prefill_token"] + per_token
    machine["per_pair"] = per_pair
    machine["per_context"] = latency["per_kv_token"]
    machine["per_decode"] = latency["per_decode_seq"] + per_decode
    machine["per_kv"] = latency["per_kv_token"] + per_kv
    machine["block_size"] = engine["block_size"]
    tangents = _tangents(latency, most_tokens, float(latency["base"]) + sampler)
    shares = [(3, 1.0), (2, 1 / engine["max_num_seqs"]), (1, 1 / engine["num_blocks"])]
    if bounded:
        shares.append((0, 1 / most_tokens))
    rules = []
    for fixed, slope in tangents:
        for column, share in shares if fixed > 0 else shares[:1]:
            rule = np.array([slope, 0.0, per_sample, 0.0])
            rule[column] += fixed * share
            rules.append(rule)
    lines = tangents.copy()
    lines[:, 0] += per_sample
    return Charges(np.array(rules), machine, lines)


def _tangents(latency: np.void, most_tokens: float, base: float) -> Floats:
    """Lines (fixed, per token), none above base + GEMM time, and none with fixed < 0."""
    count = int(latency["num_tokens"])
    if count == 0:
        return np.array([[base, 0.0]])
    at, seconds = latency["tokens"][:count], base + latency["tokens_time"][:count]
    far = min(most_tokens, max(at[-1], 1.0) * 1e6)
    inside = at[at < far]
    points = np.concatenate([inside, [far]])
    values = np.interp(points, at, seconds)
    if far > at[-1]:
        rise = (seconds[-1] - seconds[-2]) / (at[-1] - at[-2])
        values[-1] = seconds[-1] + rise * (far - at[-1])
    hull = [0]
    for i in range(1, len(points)):
        while len(hull) > 1 and _slope(points, values, hull[-2], hull[-1]) >= _slope(
            points, values, hull[-1], i
        ):
            hull.pop()
        hull.append(i)
    lines = [
        (values[a] - points[a] * slope, slope)
        for a, b in pairwise(hull)
        if (slope := _slope(points, values, a, b)) >= 0
    ]
    through_origin = (0.0, float((values / points).min()))
    positive = [line for line in lines if line[0] > 0] or [(0.0, 0.0)]
    return np.array([*positive, through_origin])


def _slope(x: Floats, y: Floats, a: int, b: int) -> float:
    return float((y[b] - y[a]) / (x[b] - x[a]))


def _sampler(latency: np.void) -> tuple[float, float]:
    """Seconds per iteration and per sampling sequence, nowhere above the curve."""
    count = int(latency["num_seqs"])
    if count == 0 or latency["num_tokens"] == 0:
        return 0.0, 0.0
    at, seconds = latency["seqs"][:count], latency["seqs_time"][:count]
    if count == 1:
        return float(seconds[0]), 0.0
    last = (seconds[-1] - seconds[-2]) / (at[-1] - at[-2])
    slope = min(float(((seconds[1:] - seconds[0]) / at[1:]).min()), float(last))
    if slope <= 0:
        return float(seconds.min()), 0.0
    return float(seconds[0]), slope


def _corners(axis: Floats, low: float, high: float) -> Floats:
    """Points between which a bilinear table over this axis is checked: grid and range ends."""
    return np.unique(np.concatenate([[low, high], axis[(axis > low) & (axis < high)]]))


def _prefill(latency: np.void, longest: float, prompt: float) -> tuple[float, float]:
    """Seconds per token and per pair, nowhere above the attention of a chunk after a prefix."""
    if latency["num_tokens"] == 0 or latency["num_chunks"] == 0:
        return 0.0, 0.0
    chunks = _corners(latency["chunk"][: latency["num_chunks"]], 1.0, longest)
    prefixes = _corners(latency["prefix"][: latency["num_prefixes"]], 0.0, longest)
    cells = [(c, p) for c in chunks for p in prefixes]
    seconds = np.array([times.prefill_attention(latency, c, p) for c, p in cells])
    chunk, prefix = np.array(cells).T
    pairs = chunk * prefix + chunk * chunk / 2
    most = float((seconds / pairs).min() * 4)
    best = (0.0, 0.0)
    for per_pair in np.linspace(0.0, most, 100):
        per_token = float(((seconds - per_pair * pairs) / chunk).min())
        if per_token + per_pair * prompt / 2 > best[0] + best[1] * prompt / 2:
            best = (per_token, float(per_pair))
    return best


def _decode(
    latency: np.void, most_seqs: float, longest: float, context: float
) -> tuple[float, float]:
    """Seconds per sequence and per KV entry, nowhere above the decode attention of a batch."""
    if latency["num_tokens"] == 0 or latency["num_batches"] == 0:
        return 0.0, 0.0
    batches = _corners(latency["batch"][: latency["num_batches"]], 1.0, most_seqs)
    contexts = _corners(latency["context"][: latency["num_contexts"]], 1.0, longest)
    cells = [(b, c) for b in batches for c in contexts]
    seconds = np.array([times.decode_attention(latency, b, b * c) for b, c in cells])
    batch, mean = np.array(cells).T
    best = (0.0, 0.0)
    for per_kv in np.linspace(0.0, 1.5 * float(seconds[-1] / (batch[-1] * mean[-1])), 200):
        per_seq = float((seconds / batch - per_kv * mean).min())
        if per_seq + per_kv * context > best[0] + best[1] * context:
            best = (per_seq, float(per_kv))
    return best
