#!/usr/bin/env bash
# The paper's three stages on tiny models, on a CPU, in about four minutes: the short form of
# examples/miniature. Everything lands in runs/quickstart; each run starts afresh.
set -euo pipefail
cd "$(dirname "$0")/.."
rm -rf runs/quickstart
export S2D_STORE=runs/quickstart/store
export OMP_NUM_THREADS=1 # models this small gain nothing from a second thread
set -v

# A teacher with a hidden skill, a smaller student, labelled and unlabelled prompts.
python examples/miniature/make_models.py runs/quickstart --size smoke --prompts runs/quickstart/prompts

# What would run, and what it would spend at most. Then all of it, stage by stage.
s2d run examples/quickstart.toml --plan
s2d run examples/quickstart.toml

# What each stage spent; the whole cost of the best student, its teacher's included.
s2d query spent_by_stage
s2d budget --lineage quickstart.stage3.r003 | tail -n 7

# Everything on one page, for a reader who has neither the store nor a network: runs/quickstart/report.html
# (s2d run wrote it); here as Markdown, the results alone.
s2d report --recipe examples/quickstart.toml --format md -o - | sed -n '/^## Claims/,/^## Books/p'

# Do the books hold? (The cold baseline may use the labels of the teacher's RL: no policy is made from both.)
s2d audit
