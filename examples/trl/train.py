"""Train a student on a locked dataset with TRL.

python examples/trl/train.py sft --dataset STORE/datasets/NAME --student FOLDER --output FOLDER
python examples/trl/train.py forward-kl --dataset STORE/datasets/NAME ...

Writes the model, and losses.jsonl: a line per optimizer update.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from locked_trainers import ForwardKLTrainer, LockedSFTTrainer, config_for
from transformers import AutoModelForCausalLM, AutoTokenizer

from trainers.torch_dataset import LockedRows

TRAINERS = {"sft": LockedSFTTrainer, "forward-kl": ForwardKLTrainer}


def main() -> None:
    """Train as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("loss", choices=TRAINERS)
    parser.add_argument("--dataset", required=True, help="folder of the locked dataset")
    parser.add_argument("--student", required=True, help="model to start from")
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--lr", type=float, default=1e-5)
    parser.add_argument("--accumulate", type=int, default=1, help="forward passes of one update")
    parser.add_argument("--cpu", action="store_true")
    args = parser.parse_args()

    rows = LockedRows(args.dataset, topk=args.loss == "forward-kl")
    trainer = TRAINERS[args.loss](
        model=AutoModelForCausalLM.from_pretrained(args.student, dtype=torch.float32),
        processing_class=AutoTokenizer.from_pretrained(args.student),
        rows=rows,
        args=config_for(
            rows,
            output_dir=str(args.output),
            learning_rate=args.lr,
            gradient_accumulation_steps=args.accumulate,
            use_cpu=args.cpu,
            bf16=not args.cpu,
            gradient_checkpointing=not args.cpu,
        ),
    )
    trainer.train()
    trainer.save_model(str(args.output / "final"))
    losses = [entry for entry in trainer.state.log_history if "loss" in entry]
    with (args.output / "losses.jsonl").open("w") as file:
        for entry in losses:
            line = {"update": entry["step"], "loss": entry["loss"], "grad_norm": entry["grad_norm"]}
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
