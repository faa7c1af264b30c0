#!/usr/bin/env bash
# The paper in miniature: for every task and seed whose figures are not in results/ yet, models, prompts and
# the recipe; then docs/miniature.md. Stopped anywhere, it goes on. `SEEDS="0 1" TASK=addition` choose.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1 # models this small gain nothing from a second thread
for seed in ${SEEDS:-0 1 2 3 4 5 6 7}; do
  for task in ${TASK:-expressions addition}; do
    place=runs/miniature/$task
    if [ ! -f examples/miniature/results/$task/seed-$seed.json ]; then
      python examples/miniature/make_models.py $place/models/seed-$seed --task $task --seed $seed \
        --prompts $place/prompts
      s2d run examples/miniature/$task.toml --quiet --set "seeds=[$seed]" \
        --set store=$place/seed-$seed/store --set output=$place/seed-$seed/policies
      python examples/miniature/seed_figures.py $task $seed --store $place/seed-$seed/store
      python examples/miniature/report.py
    fi
  done
done
python examples/miniature/report.py
