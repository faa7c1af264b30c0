#!/usr/bin/env bash
# The paper in miniature: models and prompts, every arm over three seeds, docs/miniature.md.
# Stopped anywhere, it goes on. Seeds run side by side, one on a core.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1 # models this small gain nothing from a second thread
for seed in 0 1 2; do
  python examples/miniature/make_models.py runs/miniature/seed-$seed --seed $seed --prompts runs/miniature/prompts
done
printf '%s\n' 0 1 2 | xargs -P "$(env -u OMP_NUM_THREADS nproc)" -I SEED s2d run examples/miniature.toml --seed SEED
s2d run examples/miniature.toml --quiet
python examples/miniature/report.py
