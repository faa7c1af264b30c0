"""Settings of commands on rollouts. The string under a field is its option's help, in docs too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from s2d_store.verifiers.answer_place import AnswerFrom

Support = Literal["own", "policy", "union"]


@dataclass(frozen=True, kw_only=True)
class ModelLoading:
    """Engine: how a model is loaded."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1 (transformers engine)."""
    dtype: str = "auto"
    """auto, float32, bfloat16 or float16."""
    batch_size: int = 32
    """Rollouts computed together (transformers engine)."""
    max_model_len: int = 0
    """Most tokens of prompt and response; 0: the model's own."""


@dataclass(frozen=True, kw_only=True)
class EngineChoice(ModelLoading):
    """Engine: which one."""

    engine: str = "transformers"
    """transformers (anywhere), vllm (throughput), server (what is served already), or one that
    another package registers."""
    url: str = ""
    """Endpoints of engine server: http://a:8000,http://b:8000, or a file with one per line, read
    again when it changes."""
    engine_args: tuple[tuple[str, object], ...] = ()
    """Further engine argument, e.g. tensor_parallel_size=4. May be repeated."""
    engine_workers: str = ""
    """Engines that share the work: N processes of this machine, ray, or ray:N actors of a Ray
    cluster."""


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """Several processes that share the work."""

    shard: str = ""
    """Do part i of n, disjoint from the others: 0/8; slurm: of the job array that this runs in."""


@dataclass(frozen=True, kw_only=True)
class PromptUse:
    """What becomes of each prompt."""

    n: int = 1
    """Rollouts per prompt."""
    top_logprobs: int = 0
    """Keep the policy's own top-k logprobs (warmup and opd need them); 0: none."""
    mass: float = 1.0
    """Of these, keep at each token the fewest that reach this probability; 1: all."""
    no_chat_template: bool = False
    """Feed the messages' plain text."""
    skip_too_long: bool = False
    """Leave out prompts that do not fit, instead of refusing."""


@dataclass(frozen=True)
class ScoreConfig(EngineChoice, Sharing):
    """One score command."""

    scorer: str
    """The policy that scores: registered name or id, local folder, or hub id."""
    revision: str | None = None
    """Hub revision."""
    k: int = 0
    """Entries per token; with --support policy or union 0: as many as are stored."""
    support: Support = "own"
    """own: the scorer's top k; policy: the sampling policy's top-k ids; union: both, from stored
    scores on each, without a model."""
    mass: float = 1.0
    """Keep at each token the fewest entries that reach this probability; 1: all."""
    where: str = ""
    """SQL condition on graded_rollouts: role = 'student'."""
    limit: int = 0
    """Most rollouts; 0: all."""
    chunk_rows: int = 256
    """Rollouts per commit."""
    budget: str = ""
    """Budget file; default: the store's own budget.toml, if any."""


@dataclass(frozen=True)
class VerifyConfig(Sharing):
    """One verify command."""

    verifier: str = "math-verify"
    """A verifier's name (s2d verifiers list), module:Class, module:function, or a weighted sum such
    as 'reward = 0.9 * math-verify + 0.1 * my_rewards:tidy'. Settings stand behind a name:
    'math-verify(answer_from=box)'."""
    answer_from: AnswerFrom = "auto"
    """Where math-verify looks for the answer; auto: the first place that holds one. Another rule is
    another verifier: math-verify.box."""
    where: str = ""
    """SQL condition on graded_rollouts."""
    limit: int = 0
    """Most rollouts; 0: all."""
    workers: int = 2
    """Grading processes; 0: one per core."""
    deadline_s: float = 5.0
    """Seconds a verdict may take before its worker is killed."""
    chunk_rows: int = 4096
    """Verdicts per commit."""
    budget: str = ""
    """Budget file; default: the store's own budget.toml, if any."""
    retry: bool = False
    """Grade again what timed out or erred, as a new attempt."""
    rollouts: tuple[str, ...] | None = None
    """Of those that match, only these ids; None: all."""
