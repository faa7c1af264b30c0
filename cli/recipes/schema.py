"""What a recipe may say: one frozen dataclass a table of the TOML file, documented field by field.

docs/recipes.md is made from these strings; `cli.recipes.parse` checks a file against them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from queries.kinds import Kind
from s2d_store.engines.base import SamplingParams
from s2d_store.rollouts.settings import ModelLoading, PromptUse
from s2d_store.strict_toml import FILLED_IN, place_of
from viewer.claims import Claim

Support = Literal["policy", "own", "union"]
Role = Literal["student", "teacher"]
KeepRounds = Literal["last", "all"]
EVAL = "eval"


def required_keys(kind: Kind) -> tuple[str, ...]:
    """What a stage that makes datasets of a kind must say."""
    teacher = kind.rollouts == "teacher" or (kind.policy == "on" and kind.has_topk)
    if kind.control:
        sampled = kind.policy == "on" and kind.has_topk
        return ("treatment", *(("teacher",) if sampled else ()))
    return ("start", *(("teacher",) if teacher else ()))


def optional_keys(kind: Kind) -> tuple[str, ...]:
    """What such a stage may say."""
    on_policy, by_teacher = kind.policy == "on", kind.rollouts == "teacher"
    if kind.control:
        scored = ("score",) if on_policy and kind.has_topk else ()
        own = ("generate", *scored) if on_policy else ("bridge",)
        reference = ("reference",) if kind.labels == "derived" else ()
        return ("start", "role", *own, *reference, "query", "trainer", "dataset", "train")
    return (
        *(("role",) if "teacher" not in required_keys(kind) else ()),
        "prompts",
        *(("rounds",) if on_policy else ()),
        "prompts_per_round",
        *(("rollouts_of",) if by_teacher else ()),
        "generate",
        *(("score",) if on_policy and kind.has_topk else ()),
        *(("reference",) if kind.labels == "derived" else ()),
        "query",
        "trainer",
        "dataset",
        "train",
    )


EVAL_KEYS = (("policies",), ("prompts", "sets", "baseline", "generate"))


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """`[prompts.SPLIT]`: a file of prompts, added to the store under that split."""

    file: str
    """.jsonl, .parquet or .csv file, or hf:NAME[:SPLIT]."""
    source: str = ""
    """Name of the data set; default: the file's."""
    prompt_field: str = ""
    """Field of the prompt; default: messages, prompt, question or problem."""
    answer_field: str = ""
    """Field of the gold answer; default: answer, gold or target; none: unlabelled."""
    system: str = ""
    """System message put first, in place of one that is there."""
    suffix: str = ""
    """Text put behind the user's last message."""
    skip_duplicates: bool = False
    """Keep the first of equal prompts."""
    split: Mapping[str, float] = field(default_factory=dict)
    """Deal the file's prompts out to splits of these shares: split = {"1H" = 0.5, "2H" = 0.5}."""
    split_seed: int = 0
    """Seed of that deal; which prompt goes where depends on the prompts and it alone."""

    @property
    def source_name(self) -> str:
        """The data set's name, as given or by its file."""
        return self.source or Path(self.file.removeprefix("hf:").split(":")[0]).stem


@dataclass(frozen=True, kw_only=True)
class Engine(ModelLoading):
    """`[engine]`: what samples and scores."""

    name: str = "transformers"
    """transformers (anywhere), vllm (throughput), server (one model that is served already), or one
    that another package registers."""
    url: str = ""
    """Endpoints of engine server: http://a:8000,http://b:8000, or a file with one per line."""
    args: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the engine, as a table: args.gpu_memory_utilization = 0.4."""
    keep: int = 2
    """Engines kept open between steps: the student's and the teacher's; 0 where memory is short."""


@dataclass(frozen=True, kw_only=True)
class Workers:
    """`[workers]`: engines that share what a stage samples and scores, as `--workers` does."""

    count: int | str = 1
    """Processes of this machine, each with an engine; "ray" or "ray:N": actors of a Ray cluster, as
    many as its GPUs allow, or N."""
    gpus: int = 1
    """GPUs of each: the `tensor_parallel_size` of vllm."""


@dataclass(frozen=True, kw_only=True)
class Generate(SamplingParams, PromptUse):
    """`[stage.NAME.generate]`: how the stage samples."""

    chat_template: str = ""
    """File of a chat template used instead of the tokenizer's."""
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Further variables of the chat template: chat_template_kwargs.enable_thinking = false."""
    chunk: int = 256
    """Rollouts per commit."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """`[stage.NAME.score]`: how the teacher scores the stage's rollouts (opd)."""

    support: Support = "policy"
    """policy: the teacher's logprobs at the student's own top k; own: the teacher's own top k;
    union: both, of two forward passes."""
    top_logprobs: int = 0
    """Entries a token of the teacher's own top k; with policy 0: as many as were kept."""
    mass: float = 1.0
    """Keep at each token the fewest entries that reach this probability; 1: all."""
    engine: str = ""
    """Engine that scores; empty: that of [engine]. vLLM cannot score given ids (support policy and
    union)."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """`[stage.NAME]`: one stage. Stages may name each other wherever a policy is asked for."""

    kind: str
    """grpo, warmup, opd, sft, eval or a control; with `query`, the kind of its header."""
    query: str = ""
    """A .sql file that makes the stage's datasets; its path starts at the recipe's folder."""
    trainer: str = ""
    """Trainer of the stage's datasets; empty: the one of the stage's kind."""
    start: str = ""
    """Policy or stage that training starts from; a control starts where its treatment does."""
    teacher: str = ""
    """Policy or stage that teaches: warmup, opd, sft."""
    reference: str = ""
    """Policy or stage that the KL term of `train.kl_coefficient` is to (grpo); empty: `start`."""
    role: Role = "student"
    """Role of the policy that samples and is trained: teacher in Stage 1 (grpo)."""
    prompts: str = ""
    """SQL condition on table prompts, e.g. split = 'train'; empty: all."""
    rounds: int = 1
    """Rounds of sampling and training (grpo, opd)."""
    prompts_per_round: int = 0
    """Prompts of a round, all of them in turn; 0: every prompt in every round."""
    rollouts_of: str = ""
    """The warmup or sft stage whose rollouts to train on, instead of sampling (warmup, sft)."""
    treatment: str = ""
    """The grpo stage that a control stands beside, and whose settings it takes over."""
    bridge: tuple[str, ...] = ()
    """Stages whose stored rollouts a bridge continuation draws from; empty: the OPD on its line."""
    policies: tuple[str, ...] = ()
    """Policies and stages that an eval stage compares, in that order."""
    sets: tuple[str, ...] = ()
    """Splits that an eval stage samples, each for a table of its own: `eval.SPLIT`."""
    baseline: str = ""
    """The one of them that the others are compared with; empty: every pair."""
    generate: Generate = field(default_factory=Generate)
    """How it samples."""
    score: Score = field(default_factory=Score)
    """How its teacher scores."""
    dataset: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of the stage's dataset query: docs/queries.md."""
    train: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the stage's trainer: the options of `s2d train KIND` in docs/cli.md, with _."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """`[rates]`: what a GPU does, for the GPU hours of `--plan`. They change nothing that runs."""

    sampled_tokens_per_second: float = 0.0
    """Tokens that a GPU samples; 0: no GPU hours are told."""
    flops_per_second: float = 0.0
    """FLOPs that a GPU achieves in training and scoring; 0: no GPU hours are told."""
    response_share: float = 1.0
    """Mean response as a share of max_tokens; 1 gives an upper bound."""
    dollars_per_hour: float = 0.0
    """Price of a GPU hour; 0: none is told."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The whole file."""

    name: str
    """Name of the experiment: its runs, datasets and policies are named NAME.STAGE."""
    store: str
    """The store: a folder, made where there is none, or an s3://, gs:// or az:// address."""
    output: str
    """Folder for the checkpoints and policies of its training runs."""
    prompts: Mapping[str, Prompts]
    """`[prompts.SPLIT]` tables."""
    policies: Mapping[str, str]
    """`[policies]`: name = folder or hub id; {seed} stands for the seed."""
    stage: Mapping[str, Stage]
    """`[stage.NAME]` tables, carried out in the file's order, dependencies first."""
    served: Mapping[str, str] = field(default_factory=dict)
    """`[served]`: name = folder or hub id of its tokenizer, of a policy without weights here that
    `engine.url` serves: a teacher."""
    seeds: tuple[int, ...] = (0,)
    """Everything is run once a seed; with several, names end in .s0, .s1, ..."""
    budget: str = ""
    """Budget file; empty: the store's own budget.toml, if any."""
    verifier: str = "math-verify"
    """Grades the rollouts of grpo, warmup, sft and eval stages."""
    verify_workers: int = 0
    """Grading processes; 0: one a core."""
    verify_deadline: float = 5.0
    """Seconds a verdict may take."""
    launcher: tuple[str, ...] = ()
    """Command that starts trainers in processes of their own: ["accelerate", "launch"]."""
    keep_rounds: KeepRounds = "last"
    """last: a round's weights and checkpoints are deleted once the next is done; all: none are."""
    materialise: bool = True
    """Copy a round's tokens beside its lock, which then holds even where rollouts were lost and
    sampled again; false: only name where they lie, for rounds of many GB."""
    engine: Engine = field(default_factory=Engine)
    """`[engine]`."""
    workers: Workers = field(default_factory=Workers)
    """`[workers]`."""
    claim: Mapping[str, Claim] = field(default_factory=dict)
    """`[claim.NAME]` tables: what the experiment is to show, for `s2d report`."""
    rates: Rates = field(default_factory=Rates)
    """`[rates]`."""
    places: Mapping[str, str] = field(default_factory=dict, metadata=FILLED_IN)
    """Dotted key -> where it stands: `paper.toml:12`."""
    families: Mapping[str, str] = field(default_factory=dict, metadata=FILLED_IN)
    """Stage -> the template that `[matrix]` or `[sweep]` made it of."""
    laid_over: tuple[str, ...] = field(default=(), metadata=FILLED_IN)
    """The command's `--overlay` and `--set` options."""

    @property
    def brought(self) -> dict[str, str]:
        """Every policy that it brings along: name -> folder or hub id of weights or a tokenizer."""
        return {**self.policies, **self.served}

    def stages_of(self, name: str) -> list[str]:
        """The stages that a name means: one, or all that were made of a template."""
        copies = [stage for stage, of in self.families.items() if of == name]
        return [name] if name in self.stage else copies

    def at(self, key: str) -> str:
        """Where a key, or the table around it, stands."""
        return place_of(self.places, key) or f"recipe {self.name}"

    def title(self, stage: str, key: str = "") -> str:
        """Where a stage, or a key of it, stands, and the stage; or the defaults that say it.

        A key that a control takes over stands in its treatment.
        """
        treatment = self.stage[stage].treatment if stage in self.stage else ""
        is_own = not key or f"stage.{stage}.{key}" in self.places
        if not is_own and treatment != stage and treatment in self.stage:
            return self.title(treatment, key)
        at = self.at(f"stage.{stage}.{key}".rstrip("."))
        if key and at == self.places.get(f"defaults.{key}"):
            return f"{at}: [defaults.{key.partition('.')[0]}]"
        return f"{at}: [stage.{stage}]"
