"""`make gpu-pack`: what it packs trains on a machine without s2d and without a store's packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.locked_datasets import bigram_rows, write_locked
from tests.support.tiny_models import save_tiny_model

ROOT = Path(__file__).parents[2]
PART_MEGABYTES = 1.0
# A machine without them: Python imports sitecustomize as it starts.
WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in {"duckdb", "deltalake", "polars", "obstore", "math_verify", "vllm"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
"""


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=200,
    )


def pack(out: Path, model: Path, dataset: Path) -> subprocess.CompletedProcess[str]:
    given = ["--model", str(model), "--dataset", str(dataset), "--no-wheels"]
    command = [str(ROOT / "examples/gpu/pack.py"), str(out), *given]
    return run([*command, "--part-megabytes", str(PART_MEGABYTES)], PYTHONPATH=str(ROOT))


@pytest.mark.slow
def test_a_packed_folder_trains_without_the_packages_of_a_store(tmp_path: Path) -> None:
    student = save_tiny_model(tmp_path / "student")
    data = write_locked(tmp_path / "data", bigram_rows([1, 1, 2]))
    packed = tmp_path / "packed"
    done = pack(packed, student, data)
    assert done.returncode == 0, done.stderr
    parts = sorted(packed.glob("part-*"))
    assert len(parts) > 2
    assert all(part.stat().st_size <= PART_MEGABYTES * 1e6 for part in parts)

    machine = tmp_path / "machine"
    machine.mkdir()
    (machine / "sitecustomize.py").write_text(WITHOUT)
    script = str(packed / "run.py")
    last, whole = parts[-1], parts[-1].read_bytes()
    last.unlink()
    lacks = run([script, "train", "--help"])
    assert lacks.returncode == 1 and f"lacks {last.name}" in lacks.stderr
    last.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    damaged = run([script, "train", "--help"])
    assert damaged.returncode == 1 and f"{last.name} is not what was packed" in damaged.stderr
    last.write_bytes(whole)

    told = ["--dataset", "datasets/data", "--student", "models/student", "--output", "trained"]
    trained = run([script, "train", "warmup", *told], PYTHONPATH=str(machine))
    assert trained.returncode == 0, trained.stderr
    final = packed / "unpacked" / "trained" / "final"
    assert (final / "model.safetensors").exists() and (final / "tokenizer.json").exists()
    probe = "import s2d_store, benchmarks.gpu.page as p; print(s2d_store.__file__, p.commit())"
    where, commit = run([script, "python", "-c", probe]).stdout.split()
    assert Path(where).is_relative_to(packed) and commit == commit_of(packed)


def commit_of(packed: Path) -> str:
    return str(json.loads((packed / "manifest.json").read_text())["commit"])


def test_a_lock_that_needs_its_store_is_not_packed(tmp_path: Path) -> None:
    data = write_locked(tmp_path / "data", bigram_rows([1]))
    lock = json.loads((data / "lock.json").read_text())
    source = {"columns": ["prompt_token_ids"], "files": ["tables/rollouts/x.parquet"]}
    lock["sources"] = {"rollouts": source}
    (data / "lock.json").write_text(json.dumps(lock))
    done = pack(tmp_path / "packed", tmp_path / "none", data)
    assert done.returncode == 1 and not (tmp_path / "packed").exists()
    assert "names rows of the store" in done.stderr and "materialise data" in done.stderr
