#!/usr/bin/env bash
# The main job on tiny models, on a CPU, in about two minutes: what a teacher knows moves into a
# student through stored rollouts. Everything lands in runs/quickstart; each run starts afresh.
set -euo pipefail
cd "$(dirname "$0")/../.."
rm -rf runs/quickstart
export S2D_STORE=runs/quickstart/store
export OMP_NUM_THREADS=1 # models this small gain nothing from a second thread
set -v

# A teacher that is right most of the time, a student that mostly guesses, prompts with answers.
python examples/quickstart/make_models.py runs/quickstart

# A store, the prompts, the two policies.
s2d init
s2d prompts add runs/quickstart/train.jsonl --source arithmetic --split train
s2d prompts add runs/quickstart/test.jsonl --source arithmetic --split test
s2d policies add teacher runs/quickstart/teacher
s2d policies add student runs/quickstart/student

# Teacher rollouts: sampled, graded, and the correct ones scored (top-k logprobs at every token).
s2d generate --policy teacher --role teacher --where "split = 'train'" --n 8 --max-tokens 24 --batch-size 256
s2d verify
s2d score --teacher teacher --top-k 8 --where "policy = 'teacher' AND reward > 0" --batch-size 256

# The warmup set is a query, locked in training order; training consumes it.
s2d dataset build warmup --query warmup --param teacher=teacher --param passes=8
s2d train warmup --dataset warmup --student student --name student-warmup --output runs/quickstart/warmup --lr 2e-3 --lr-schedule cosine

# Held-out prompts, four samples each, for the teacher and the student before and after.
s2d generate --policy teacher --role teacher --purpose eval --where "split = 'test'" --n 4 --max-tokens 24 --batch-size 256 --verify
for policy in student student-warmup; do
  s2d generate --policy $policy --role student --purpose eval --where "split = 'test'" --n 4 --max-tokens 24 --batch-size 256 --verify
done

# Did it work, and what did it cost? (Rewards, tokens and updates are rows: all of this is SQL.)
s2d query pass_rate --param purpose=eval
s2d query spent
s2d query spent_by_run
