#!/usr/bin/env bash
# The benchmarks that need real logprobs: PROMPTS=gsm8k_train.jsonl make bench-vllm
set -euo pipefail
cd "$(dirname "$0")/.."
prompts=${PROMPTS:?PROMPTS=FILE.jsonl with fields question and answer, e.g. GSM8K train}
python=.venv/bin/python
$python examples/gsm8k/make_models.py runs/gsm8k
$python -m benchmarks.topk_size --model runs/gsm8k/teacher --texts "$prompts"
$python -m benchmarks.capture --model runs/gsm8k/teacher --prompts "$prompts"
$python -m benchmarks.verifier --prompts "$prompts"
