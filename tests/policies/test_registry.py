"""Policies in a store: those without weights, models that move, experts, and hashes remembered."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from s2d_store.accounting.flops import Lengths, forward_flops
from s2d_store.errors import InputError, NotFoundError
from s2d_store.policies import hash_cache, model_config, registry, weights
from s2d_store.policies.identity import inspect_policy
from s2d_store.store import Store
from tests.conftest import Cli
from tests.support import synthetic
from tests.support.tiny_models import save_tiny_model


@pytest.fixture
def beside(tmp_path: Path, student_folder: Path) -> Path:
    """A model beside the store."""
    folder = tmp_path / "models" / "student"
    shutil.copytree(student_folder, folder)
    return folder


def test_what_is_known_by_name_alone_has_null_facts(
    cli: Cli, store: Store, questions: Path, tmp_path: Path
) -> None:
    done = cli("policies", "add", "gpt", "--outside", "--store", store.root)
    assert done.code == 0 and "(outside: known by name alone)" in done.out
    assert cli("policies", "add", "gpt", "--outside", "--store", store.root).code == 0
    columns = "kind, location, vocab_size, n_parameters, active_parameters, tokenizer_fingerprint"
    text = f"SELECT {columns} FROM policies"
    assert store.sql(text).fetchall() == [("outside", None, None, None, None, None)]
    cli("prompts", "add", questions, "--store", store.root)
    for command in (
        ("generate", "--policy", "gpt", "--role", "teacher"),
        ("score", "--scorer", "gpt", "--top-logprobs", 2),
        ("eval", "gpt"),
        ("policies", "move", "gpt", tmp_path),
    ):
        done = cli(*command, "--store", store.root)
        assert done.code == 1, command
        assert "policy 'gpt' has no weights here" in done.err and "Traceback" not in done.err
    assert cli("trace", "gpt", "--store", store.root).code == 0
    assert "gpt" in cli("policies", "list", "--store", store.root).out
    both = cli("policies", "add", "x", tmp_path, "--outside", "--store", store.root)
    assert both.code == 1 and "--outside" in both.err
    known = registry.recorded(store, store.sql("SELECT policy_id FROM policies").fetchall()[0][0])
    assert forward_flops(known, Lengths.of(60, 40)) == 0


def test_flops_of_a_policy_of_unknown_size_count_nothing_and_budget_says_so(
    cli: Cli, store: Store
) -> None:
    synthetic.fill(store, name="known")
    assert "is unknown" not in cli("budget", "--store", store.root).out
    outside = registry.register_without_weights(store, "gpt")
    row = synthetic.ROLLOUT | {
        "rollout_id": "r",
        "role": "teacher",
        "run_id": "import",
        "prompt_id": "p",
        "policy_id": outside.policy_id,
        "sample_index": 0,
        "response_token_ids": [1, 2],
        "response_tokens": 2,
    }
    store.commit({"rollouts": synthetic.table("rollouts", [row])})
    text = "SELECT generated_tokens, flops FROM spent WHERE run_id = 'import'"
    assert store.sql(text).fetchall() == [(2, 0.0)]
    done = cli("budget", "--store", store.root)
    assert done.code == 0 and "FLOPs of gpt count 0" in done.out


def test_a_store_that_moves_keeps_the_models_beside_it(
    store: Store, beside: Path, tmp_path: Path
) -> None:
    made = registry.register(store, "student", str(beside))
    assert store.sql("SELECT location FROM policies").fetchall() == [("../models/student",)]
    assert registry.find(store, "student").location == str(beside)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("store", "models"):
        (tmp_path / name).rename(moved / name)
    other = Store.open(moved / "store")
    found = registry.find(other, "student")
    assert (found.policy_id, found.location) == (made.policy_id, str(moved / "models" / "student"))


def test_a_model_that_moves_is_found_by_its_fingerprint(
    cli: Cli, store: Store, beside: Path, tmp_path: Path, teacher_folder: Path
) -> None:
    registry.register(store, "student", str(beside))
    place = tmp_path / "store" / "mine"
    beside.rename(place)
    with pytest.raises(NotFoundError, match=r"(?s)not at .*s2d policies move student FOLDER"):
        registry.find(store, "student")
    done = cli("policies", "move", "student", teacher_folder, "--store", store.root)
    assert done.code == 1 and "is not policy 'student'" in done.err
    done = cli("policies", "move", "student", place, "--store", store.root)
    assert done.code == 0 and str(place) in done.out
    assert registry.find(store, "student").location == str(place)
    assert "./mine" in cli("policies", "list", "--store", store.root).out
    again = place.rename(tmp_path / "again")
    registry.register(store, "student", str(again))
    assert registry.find(store, "student").location == str(again), "adding it again says where"


def experts(folder: Path, n: int, config: dict[str, Any]) -> Path:
    """A saved model's config and weights with n experts of 6 parameters, 10 others, 4 shared."""
    folder.mkdir()
    tensors = {f"model.layers.0.mlp.experts.{i}.up.weight": np.zeros((2, 3)) for i in range(n)}
    tensors["model.embed_tokens.weight"] = np.zeros((5, 2))
    tensors["model.layers.0.mlp.shared_experts.up.weight"] = np.zeros((2, 2))
    save_file({k: v.astype(np.float32) for k, v in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("config", "active"),
    [
        ({"num_experts": 4, "num_experts_per_tok": 1}, 14 + 6),
        ({"n_routed_experts": 4, "num_experts_per_tok": 3}, 14 + 18),
        ({"text_config": {"num_local_experts": 4, "num_experts_per_tok": 2}}, 14 + 12),
        ({"num_experts": 4}, None),
    ],
)
def test_active_parameters_of_experts(
    tmp_path: Path, config: dict[str, Any], active: int | None
) -> None:
    folder = experts(tmp_path / "m", 4, config)
    counted = weights.count_parameters(weights.weight_files(folder), tied=False)
    assert (counted.count, counted.in_experts) == (14 + 24, 24)
    assert model_config.active_parameters(config, counted) == active


def test_all_parameters_of_a_dense_model_are_active(student_folder: Path) -> None:
    info, _ = inspect_policy(str(student_folder))
    assert info.active_parameters == info.n_parameters


def test_a_wrong_vocab_size_is_one_error(cli: Cli, store: Store, beside: Path) -> None:
    path = beside / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"vocab_size": config["vocab_size"] + 7}))
    done = cli("policies", "add", "student", beside, "--store", store.root)
    assert done.code == 1 and "Traceback" not in done.err
    assert "has vocab_size 107, which its weights do not have" in done.err
    assert "the saved embedding has 100 rows" in done.err


def test_hashes_are_remembered_until_a_file_changes(
    beside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S2D_CACHE", str(tmp_path / "cache"))
    read: list[int] = []
    whole = weights.hash_files

    def counted(files: Any) -> bytes:
        read.append(len(files))
        return whole(files)

    monkeypatch.setattr(hash_cache, "hash_files", counted)
    files = weights.weight_files(beside)
    os.utime(files[0])
    first = hash_cache.hash_weights(files)
    assert hash_cache.hash_weights(files) == first and len(read) == 2, "a file changed just now"
    os.utime(files[0], ns=(10**18, 10**18))
    assert hash_cache.hash_weights(files) == hash_cache.hash_weights(files) == first
    assert len(read) == 3
    monkeypatch.setenv("S2D_HASH_CACHE", "0")
    assert hash_cache.hash_weights(files) == first and len(read) == 4
    monkeypatch.delenv("S2D_HASH_CACHE")
    content = bytearray(files[0].read_bytes())
    content[-1] ^= 1
    files[0].write_bytes(content)
    assert hash_cache.hash_weights(files) != first
    (entry,) = (tmp_path / "cache" / "weight-hashes").iterdir()
    os.utime(files[0], ns=(10**18, 10**18))
    entry.write_text("garbage")
    assert hash_cache.hash_weights(files) != first, "an entry that is no hash is made again"


def test_a_policy_name_is_one_policys(store: Store, student_folder: Path) -> None:
    registry.register(store, "student", str(student_folder))
    with pytest.raises(InputError, match="policy name 'student' is taken"):
        registry.register_without_weights(store, "student")
    other = registry.register_without_weights(store, "api", kind="served", fingerprint="v7")
    with pytest.raises(InputError, match="an endpoint serves it"):
        registry.find(store, "api")
    assert registry.register_without_weights(store, "api", kind="served", fingerprint="v7") == other


def test_padding_of_a_vocabulary_is_no_wrong_size(tmp_path: Path) -> None:
    info, vocabulary = inspect_policy(str(save_tiny_model(tmp_path / "padded", padding=28)))
    assert (info.vocab_size, len(vocabulary)) == (128, 100)
