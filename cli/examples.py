"""An example of each command, as its help and docs/cli.md print it; a test parses every one."""

from __future__ import annotations

from collections.abc import Mapping

EXAMPLES: Mapping[str, str] = {
    "init": "s2d init --store runs/mine/store",
    "prompts add": "s2d prompts add train.jsonl --source gsm8k --split train",
    "policies add": "s2d policies add teacher models/teacher",
    "policies move": "s2d policies move teacher /mnt/models/teacher",
    "policies list": "s2d policies list",
    "generate": "s2d generate --policy teacher --role teacher -n 8 --top-logprobs 64 --verify",
    "verify": "s2d verify --where \"purpose = 'eval'\"",
    "verifiers list": "s2d verifiers list",
    "verifiers withdraw": "s2d verifiers withdraw mine 1 --reason 'took units for numbers'",
    "score": "s2d score --teacher teacher --top-logprobs 64 --where \"role = 'student'\"",
    "eval": "s2d eval student teacher --where \"split = 'test'\" -n 4",
    "run": "s2d run examples/quickstart.toml --plan",
    "show": "s2d show 0d8ad8ddcea5164b\ns2d show 0d8a --token 3",
    "sample": "s2d sample -n 5 --where \"policy = 'student' AND outcome = 'wrong'\"",
    "runs": "s2d runs --stage bridge",
    "watch": "s2d watch --every 5",
    "query": "s2d query pass_rate -p purpose=eval\n"
    's2d query "SELECT policy, avg(reward) FROM graded_rollouts GROUP BY ALL" --format md',
    "dataset build": "s2d dataset build warmup --query warmup -p teacher=teacher",
    "dataset materialise": "s2d dataset materialise warmup",
    "dataset verify": "s2d dataset verify warmup",
    "dataset list": "s2d dataset list",
    "dataset restore": "s2d dataset restore warmup",
    "dataset drop": "s2d dataset drop warmup",
    "dataset show": "s2d dataset show warmup",
    "dataset diff": "s2d dataset diff warmup sft",
    "dataset export": "s2d dataset export warmup --output warmup.parquet",
    "audit": "s2d audit\ns2d audit label_splits -v -p shared=teacher/rl-teacher,student/cold-grpo",
    "train warmup": "s2d train warmup --dataset warmup --student student --output runs/warmup",
    "train opd": "s2d train opd --dataset opd --student warmup --output runs/opd",
    "train grpo": "s2d train grpo --dataset stage3 --student bridged --output runs/stage3",
    "train bridge_continuation": "s2d train bridge_continuation --dataset more --student bridged "
    "--output runs/more",
    "train sft": "s2d train sft --dataset sft --student student --output runs/sft",
    "budget": "s2d budget\ns2d budget --lineage student --purpose any",
    "budget check": "s2d budget check",
    "view": "s2d view --store runs/quickstart/store",
    "trace": "s2d trace student",
    "info": "s2d info --store runs/quickstart/store",
    "doctor": "s2d doctor --quick",
    "compact": "s2d compact",
    "vacuum": "s2d vacuum",
    "migrate": "s2d migrate --store runs/old/store",
}


def of(command_path: str) -> str:
    """The example of a command, by its words with or without `s2d`; empty where it has none."""
    return EXAMPLES.get(command_path.removeprefix("s2d "), "")
