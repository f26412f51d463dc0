"""A scenario: all that a YAML file can say of a simulation, with units, defaults and rules.

The engine's names are vLLM's own. `sgym.loading` reads a scenario from a file.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

LARGEST = 1e12  # of every number without a limit of its own: products stay finite
SHORTEST_ITERATION = 1e-6  # seconds; below, time would hardly pass

Seconds = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Size = Annotated[int, Field(ge=0, le=2**31 - 1)]
Share = Annotated[float, Field(gt=0, le=1)]


class Model(BaseModel):
    """Base of all sections: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Engine(Model):
    """Limits of one engine, under vLLM's argument names."""

    former: Literal["vllm_v1", "vllm_v0", "sarathi", "orca", "sglang"] = Field(
        default="vllm_v1", description="the engine whose batch forming is simulated"
    )
    max_num_seqs: Annotated[int, Field(ge=1, le=8192)] = Field(
        default=256, description="running requests"
    )
    max_num_batched_tokens: Annotated[int, Field(ge=1, le=2**20)] = Field(
        default=2048, description="tokens per iteration; `chunk_size` for sarathi"
    )
    max_model_len: Count = Field(default=16384, description="tokens of prompt and output together")
    block_size: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=16, description="tokens per KV block"
    )
    num_gpu_blocks: Annotated[int, Field(ge=2, le=2**30)] | None = Field(
        default=None, description="KV blocks with vLLM's null block; none = from GPU and model"
    )
    gpu_memory_utilization: Share = Field(
        default=0.9, description="share of GPU memory that the engine takes"
    )
    watermark: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None,
        description="share of blocks kept free at admission; none = 0 (vllm_v1, orca) or 0.01",
    )
    long_prefill_token_threshold: Size = Field(
        default=0, description="most prefill tokens of one request per iteration, 0 = no limit"
    )
    enable_chunked_prefill: bool = Field(
        default=True, description="split prompts (vllm_v1 and vllm_v0)"
    )
    scheduler_reserve_full_isl: bool = Field(
        default=True,
        description="vllm_v1: admit only if the whole known sequence fits (0.33; not in 0.11)",
    )
    scheduling_policy: Literal["fcfs", "priority"] = Field(
        default="fcfs", description="priority: order and victims by request priority"
    )
    orca_reserve: Literal["max_len", "pow2", "oracle"] = Field(
        default="max_len",
        description="KV that orca reserves: max_model_len, next power of 2, or the truth",
    )
    enable_prefix_caching: bool = Field(
        default=False,
        description="vllm_v1: find the KV of prompts that begin alike, and of preempted requests "
        "(vLLM's default is true)",
    )
    async_scheduling: bool = Field(
        default=False,
        description="vllm_v1: form the next batch while one is computed; only on mixed instances, "
        "without swap and migration (vLLM's default is true)",
    )
    preemption_mode: Literal["recompute", "swap"] = Field(
        default="recompute", description="what becomes of the KV of a preempted request"
    )
    swap_space: Annotated[float, Field(ge=0, le=LARGEST)] = Field(
        default=4.0, description="swap: GiB of host memory per GPU"
    )
    swap_bandwidth: Positive = Field(
        default=25e9,
        description="swap: bytes per second and GPU, each way (PCIe 4.0 x16 reaches about 25e9)",
    )
    swap_overlap: bool = Field(
        default=False, description="swap: copies run beside the computation, not before it"
    )

    @model_validator(mode="after")
    def _as_vllm_v1_does(self) -> "Engine":
        for name in ("enable_prefix_caching", "async_scheduling"):
            if getattr(self, name) and self.former != "vllm_v1":
                raise ValueError(
                    f"`{name}: true` needs `former: vllm_v1`, got {self.former}: set it to false"
                )
        if self.async_scheduling and self.preemption_mode == "swap":
            raise ValueError(
                "`async_scheduling: true` needs `preemption_mode: recompute`, got swap: "
                "change one of them"
            )
        return self


LINKS = {
    "nvlink": (250e9, 20e-6),
    "pcie": (25e9, 20e-6),
    "infiniband": (24e9, 20e-6),
    "ethernet": (12e9, 100e-6),
}
"""Port of an instance: bytes per second each way, seconds.

nvlink: 12 links of an A100 give 300e9 each way on paper; 83 % were reached on an H100
(github.com/NVIDIA/nccl/issues/1264: 749 of 900 GB/s). pcie: 4.0 x16, 32e9 on paper; 25e9 each way
measured between A40s (github.com/NVIDIA/nccl-tests/issues/74: 50 GB/s both ways together).
infiniband: one port of 200 Gb/s, ethernet: one of 100 Gb/s, of which NCCL's authors expect 24 and
12 GB/s (github.com/NVIDIA/nccl-tests/issues/119). The latencies are round numbers for setting up a
transfer, assumed, not measured; an 8B model's KV of 1,000 tokens takes 5.5 ms on infiniband.
"""


class Link(Model):
    """The network port of each instance; transfers through a port share it equally."""

    preset: Literal["nvlink", "pcie", "infiniband", "ethernet"] = Field(
        default="infiniband", description="bandwidth and latency of a kind of link"
    )
    bandwidth: Positive | None = Field(
        default=None, description="bytes per second each way; none = the preset's"
    )
    latency: Seconds | None = Field(
        default=None, description="seconds before what was sent is there; none = the preset's"
    )
    layerwise: bool = Field(
        default=False, description="hand-off: send each layer's KV while the next is computed"
    )

    @property
    def resolved(self) -> tuple[float, float]:
        """Bytes per second, seconds."""
        bandwidth, latency = LINKS[self.preset]
        return (
            bandwidth if self.bandwidth is None else self.bandwidth,
            latency if self.latency is None else self.latency,
        )


class Migrate(Model):
    """How a running request moves to another instance."""

    mode: Literal["live", "stop_and_copy", "recompute"] = Field(
        default="live", description="copied while it decodes, copied at rest, or computed again"
    )
    stages: Count = Field(default=3, description="live: copies before it gives up")
    last_blocks: Count = Field(
        default=16, description="live: below so many KV blocks to copy, the request stops for it"
    )
    concurrent: Count = Field(
        default=1, description="migrations of an instance at a time, out and in"
    )


class Pool(Model):
    """Equal instances of a cluster."""

    role: Literal["mixed", "prefill", "decode"] = Field(
        default="mixed", description="prefill: hands requests off; decode: takes them over"
    )
    instances: Annotated[int, Field(ge=1, le=4096)] = Field(
        default=1, description="serving engines"
    )
    gpu: str | None = Field(default=None, description="none = cluster.gpu")
    tp: Annotated[int, Field(ge=1, le=8)] | None = Field(
        default=None, description="GPUs of an instance; none = cluster.tp"
    )
    engine: dict[str, Any] = Field(
        default_factory=dict, description="settings that differ from scenario.engine"
    )
    profile: str | None = Field(
        default=None, description="latency profile; none = as latency.profile, gpu and tp say"
    )
    link_bandwidth: Positive | None = Field(
        default=None, description="bytes per second of an instance's port; none = cluster.link's"
    )

    @model_validator(mode="after")
    def _common_settings(self) -> "Pool":
        for name in ("max_model_len", "block_size"):
            if name in self.engine:
                raise ValueError(
                    f"`engine.{name}` must be the same in all pools, as requests move, got "
                    f"{self.engine[name]!r}: set it in scenario.engine"
                )
        return self


class Cluster(Model):
    """The machines behind a router: equal instances, or pools of them."""

    instances: Annotated[int, Field(ge=1, le=4096)] = Field(
        default=1, description="serving engines, each of which prefills and decodes"
    )
    pools: tuple[Pool, ...] = Field(
        default=(), description="instances by role and GPU; replaces `instances`"
    )
    gpu: str = Field(
        default="A100-80GB", description="GPU of an instance, as in `sgym list profiles`"
    )
    model: str = Field(
        default="Llama-3.1-8B", description="model served, as in `sgym list profiles`"
    )
    tp: Annotated[int, Field(ge=1, le=8)] = Field(
        default=1, description="GPUs of an instance (tensor parallel)"
    )
    router: str = Field(default="round_robin", description="which instance takes an arrival")
    staleness: Seconds = Field(
        default=0.0, description="seconds between the reports on which the router relies"
    )
    handoff: str = Field(
        default="least_kv", description="which decode instance takes a finished prefill"
    )
    link: Link = Link()
    migration: Migrate = Migrate()

    @property
    def groups(self) -> tuple[Pool, ...]:
        """The pools; equal mixed instances are one."""
        return self.pools or (Pool(instances=self.instances),)

    @property
    def num_instances(self) -> int:
        """Instances of all pools."""
        return sum(pool.instances for pool in self.groups)

    @model_validator(mode="after")
    def _complete(self) -> "Cluster":
        if self.pools and "instances" in self.model_fields_set and self.instances > 1:
            raise ValueError("give `instances` or `pools`, not both")
        roles = {pool.role for pool in self.groups}
        if "prefill" in roles and roles == {"prefill"}:
            raise ValueError("`pools` has prefill instances, but none that decodes")
        if roles == {"decode"}:
            raise ValueError("`pools` has decode instances, but none that prefills")
        if self.num_instances > 4096:
            raise ValueError(f"a cluster has at most 4096 instances, got {self.num_instances}")
        return self


class Linear(Model):
    """seconds = iteration + prefill_token*P + decode_seq*D + context_token*KV, KV after it."""

    iteration: Seconds = Field(description="seconds per iteration")
    prefill_token: Seconds = Field(default=0.0, description="seconds per prefill token")
    decode_seq: Seconds = Field(default=0.0, description="seconds per decoding sequence")
    context_token: Seconds = Field(default=0.0, description="seconds per KV entry of the batch")

    @model_validator(mode="after")
    def _time_passes(self) -> "Linear":
        shortest = self.iteration + min(self.prefill_token, self.decode_seq) + self.context_token
        if shortest < SHORTEST_ITERATION:
            raise ValueError(
                f"an iteration of one token takes {shortest:g} s, must be at least "
                f"{SHORTEST_ITERATION:g}: raise `iteration`"
            )
        return self


class Latency(Model):
    """How long an iteration takes: a measured profile or a line."""

    profile: str | None = Field(
        default=None,
        description="name or path of a profile; none = the one of cluster.gpu, model and tp",
    )
    linear: Linear | None = Field(default=None, description="a line instead of a profile")
    overhead: Seconds | None = Field(
        default=None,
        description="seconds of CPU work per iteration; none = the profile's fitted value",
    )
    noise: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0,
        description="standard deviation of the log of a random factor on every iteration",
    )

    @model_validator(mode="after")
    def _one_source(self) -> "Latency":
        if self.linear is not None and (self.profile is not None or self.overhead is not None):
            raise ValueError("`linear` replaces a profile: leave out `profile` and `overhead`")
        return self


class Lengths(Model):
    """Where prompt and output lengths come from; several components make a mixture."""

    dataset: str | None = Field(
        default=None, description="fitted lengths, as in `sgym list datasets`"
    )
    prompt: Count | None = Field(
        default=None, description="fixed or median prompt length in tokens"
    )
    output: Count | None = Field(
        default=None, description="fixed or median output length in tokens"
    )
    prompt_sigma: Annotated[float, Field(ge=0, le=4)] = Field(
        default=0.0, description="lognormal: standard deviation of the log of the prompt length"
    )
    output_sigma: Annotated[float, Field(ge=0, le=4)] = Field(
        default=0.0, description="same for the output"
    )
    share: Share = Field(default=1.0, description="part of the requests; shares are normalised")
    user_class: str | None = Field(default=None, description="class of users of this component")

    @model_validator(mode="after")
    def _one_source(self) -> "Lengths":
        fixed = self.prompt is not None and self.output is not None
        if (self.dataset is not None) == fixed or (
            self.dataset is not None and (self.prompt is not None or self.output is not None)
        ):
            raise ValueError("give either `dataset`, or both `prompt` and `output`")
        return self


class Arrivals(Model):
    """When requests come. `workload.rate` is always the mean rate."""

    process: Literal["poisson", "gamma", "constant", "mmpp", "piecewise", "diurnal"] = Field(
        default="poisson", description="the arrival process"
    )
    cv: Annotated[float, Field(ge=1e-3, le=1e3)] = Field(
        default=1.0, description="gamma: coefficient of variation of the gaps"
    )
    levels: tuple[Seconds, ...] = Field(
        default=(0.5, 2.0), description="mmpp and piecewise: rates relative to each other"
    )
    durations: tuple[Positive, ...] = Field(
        default=(60.0, 20.0),
        description="seconds in each level (mmpp: mean; piecewise: exact, repeated)",
    )
    period: Positive = Field(default=86400.0, description="diurnal: seconds of one cycle")
    amplitude: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.5, description="diurnal: swing around the mean, relative to it"
    )
    phase: float = Field(
        default=0.0, description="diurnal: seconds by which the window starts into the cycle"
    )

    @model_validator(mode="after")
    def _levels_match(self) -> "Arrivals":
        if self.process in ("mmpp", "piecewise"):
            if len(self.levels) != len(self.durations) or len(self.levels) < 1:
                raise ValueError("`levels` and `durations` must have the same length, at least 1")
            if not sum(self.levels) > 0:
                raise ValueError("at least one of `levels` must be above 0")
        return self


class Prediction(Model):
    """What a length predictor tells policies that ask for it (sjf, srpt)."""

    kind: Literal["none", "oracle", "noisy", "bucket"] = Field(
        default="noisy", description="kind of predictor"
    )
    sigma: Annotated[float, Field(ge=0, le=4)] = Field(
        default=0.5,
        description="noisy: standard deviation of the log of a factor on the true length",
    )
    buckets: tuple[Count, ...] = Field(
        default=(32, 128, 512, 2048),
        min_length=1,
        description="bucket: upper bounds in tokens; the bound is predicted",
    )


class SystemPrompts(Model):
    """System prompts: prompts that begin alike, word for word, whoever asks."""

    count: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=10, description="different system prompts"
    )
    tokens: Count = Field(
        default=500, description="fixed or median length; comes before what `lengths` says"
    )
    tokens_sigma: Annotated[float, Field(ge=0, le=4)] = Field(
        default=0.0, description="lognormal: standard deviation of the log of the length"
    )
    zipf: Annotated[float, Field(ge=0, le=10)] = Field(
        default=1.0, description="the k-th most popular is used like 1 / k**zipf; 0 = all alike"
    )
    share: Share = Field(default=1.0, description="part of the conversations that have one")


class Conversations(Model):
    """Follow-up requests: a turn's prompt = last prompt + last output + what `lengths` says."""

    turns: Annotated[float, Field(ge=1, le=1000)] = Field(
        default=4.0, description="mean number of requests of a conversation (geometric)"
    )
    think_time: Positive = Field(
        default=60.0,
        description="mean seconds between the arrivals of two turns (exponential; open loop: "
        "however long the answer takes)",
    )


class Prefixes(Model):
    """What generated prompts share with others: prefix caching and its routers live on that."""

    system: SystemPrompts | None = Field(default=None, description="none = no system prompts")
    conversations: Conversations | None = Field(
        default=None, description="none = every request is a conversation of its own"
    )

    @model_validator(mode="after")
    def _shares_something(self) -> "Prefixes":
        if self.system is None and self.conversations is None:
            raise ValueError("give `system`, `conversations` or both")
        return self


class Workload(Model):
    """The requests: a trace, or generated arrivals and lengths."""

    rate: Positive | None = Field(
        default=None,
        description="mean requests per second; a trace is sped up or slowed down to it",
    )
    num_requests: Count | None = Field(default=None, description="at most that many requests")
    lengths: tuple[Lengths, ...] = Field(
        default=(Lengths(dataset="sharegpt"),),
        min_length=1,
        description="components of the length distribution",
    )
    arrivals: Arrivals = Arrivals()
    prefixes: Prefixes | None = Field(
        default=None, description="what prompts share (a trace brings its own); none = nothing"
    )
    prediction: Prediction = Prediction()
    trace: str | None = Field(
        default=None, description="file or name of a trace; replaces lengths, arrivals"
    )
    format: str = Field(
        default="auto", description="format of the trace, as in `sgym traces formats`"
    )
    time_unit: Literal["auto", "s", "ms", "us", "ns", "datetime"] = Field(
        default="auto", description="unit of the trace's time stamps"
    )
    window: tuple[Seconds, Positive] | None = Field(
        default=None,
        description="part of the trace, in its own seconds from its first row: [from, to]",
    )
    random_window: bool = Field(
        default=True,
        description="each seed starts at another place of the trace (false: at `window`)",
    )
    rate_scale: Positive = Field(
        default=1.0, description="factor on the trace's rate, if `rate` is not given"
    )
    zero_output: Literal["drop", "clip1", "flag"] = Field(
        default="drop",
        description="rows without output: leave out, count as 1 token, or refuse the file",
    )
    tie_jitter: Literal["auto", "none", "uniform"] = Field(
        default="auto", description="spread equal time stamps over the trace's time step"
    )
    hash_block: Annotated[int, Field(ge=1, le=2**20)] | None = Field(
        default=None,
        description="prompt tokens per entry of the trace's hash_ids; none = as the format has it, "
        "or as fits most rows",
    )
    max_prompt: Count | None = Field(
        default=None, description="drop requests with a longer prompt (with `prefixes`: cut it)"
    )
    max_output: Count | None = Field(default=None, description="cut longer outputs to this")

    @model_validator(mode="after")
    def _rate_or_trace(self) -> "Workload":
        if self.trace is None and self.rate is None:
            raise ValueError("give `rate` (requests per second), or a `trace`")
        if self.window is not None and self.window[1] <= self.window[0]:
            raise ValueError(f"`window` must end after it starts, got {list(self.window)}")
        if self.trace is not None and self.prefixes is not None:
            raise ValueError("give `trace` or `prefixes`: a trace says itself what prompts share")
        return self


class UserClass(Model):
    """Users who read alike: their token SLO and what they are worth."""

    name: str = Field(default="default", description="for tables")
    share: Share = Field(default=1.0, description="part of the requests; shares are normalised")
    token_time: Positive = Field(
        default=0.2, description="V: seconds per token that the reader reads"
    )
    first_delay: Seconds = Field(
        default=0.0, description="D0: seconds granted before the first token"
    )
    first_delay_per_prompt_token: Seconds = Field(
        default=0.0, description="seconds added to D0 per token"
    )
    alpha: Annotated[float, Field(ge=0, le=LARGEST)] = Field(
        default=2.5, description="tokens lost per second of idle latency"
    )
    weight: Positive = Field(default=1.0, description="worth of a token of this class")
    priority: Annotated[int, Field(ge=-(2**31), le=2**31 - 1)] = Field(
        default=0, description="engine priority of its requests, lower first"
    )


class Slo(Model):
    """The metric, smooth goodput; conventional thresholds are for reported columns only."""

    classes: tuple[UserClass, ...] = Field(default=(UserClass(),), min_length=1)
    origin: Literal["commit", "first_token"] = Field(
        default="commit",
        description="deadlines count from the arrival (commit) or from the first token",
    )
    penalty: Literal["identity", "capped", "quadratic"] = Field(
        default="identity",
        description="how the loss grows with idle latency l: l, min(l, penalty_cap) or l * l",
    )
    penalty_cap: Positive = Field(
        default=10.0, description="capped: seconds beyond which nothing more is lost"
    )
    scale_by_tokens: bool = Field(default=False, description="multiply f by the tokens delivered")
    clamp: bool = Field(
        default=True, description="idle latency is at least 0 (false: raw, may be negative)"
    )
    reward: Literal["smooth_goodput", "goodput", "throughput", "qoe"] = Field(
        default="smooth_goodput", description="whose change is the reward of a step"
    )
    ttft: Positive = Field(default=2.0, description="seconds, for the column `attainment_ttft_tbt`")
    tbt: Positive = Field(default=0.2, description="seconds between tokens, same column")
    tpot: Positive = Field(
        default=0.1, description="seconds per output token, `attainment_ttft_tpot`"
    )
    e2e: Positive = Field(default=60.0, description="seconds, for the column `attainment_e2e`")

    @model_validator(mode="after")
    def _unique_names(self) -> "Slo":
        names = [user.name for user in self.classes]
        if len(set(names)) != len(names):
            raise ValueError(f"class names must differ, got {names}")
        if self.penalty == "quadratic" and not self.clamp:
            raise ValueError("`penalty: quadratic` needs `clamp: true`: it must not fall below 0")
        return self


class Episode(Model):
    """The window that is simulated."""

    duration: Positive = Field(default=300.0, description="seconds: how long is counted")
    warm_start: Seconds = Field(
        default=0.0,
        description="seconds simulated under the default policy before the window starts",
    )


class Policy(Model):
    """The policy that decides what the caller does not, and its parameters."""

    model_config = ConfigDict(frozen=True, extra="allow")
    name: str = Field(
        default="stock", description="as in `sgym list policies`; stock = `engine` as it stands"
    )


class Scenario(Model):
    """One simulation, complete. `name` and `description` are for tables."""

    name: str = Field(default="unnamed", description="for tables and file names")
    description: str = Field(default="", description="one sentence")
    cluster: Cluster = Cluster()
    engine: Engine = Engine()
    latency: Latency = Latency()
    workload: Workload
    slo: Slo = Slo()
    episode: Episode = Episode()
    policy: Policy = Policy()

    @model_validator(mode="after")
    def _classes_exist(self) -> "Scenario":
        known = [user.name for user in self.slo.classes]
        for index, component in enumerate(self.workload.lengths):
            if component.user_class is not None and component.user_class not in known:
                raise ValueError(
                    f"workload.lengths.{index}.user_class is {component.user_class!r}, "
                    f"but slo.classes has {known}"
                )
        return self
