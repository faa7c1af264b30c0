"""Policy identity: what changes a fingerprint and what does not; tokenizers and chat rendering."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2d_store.errors import InputError, NotFoundError
from s2d_store.policies import weights
from s2d_store.policies.chat_template import render_chat, render_plain
from s2d_store.policies.identity import inspect_policy
from s2d_store.policies.tokenizer import (
    load_tokenizer,
    tokenizer_difference,
    tokenizer_fingerprint,
)
from s2d_store.policies.weights import count_parameters, hash_files, weight_files
from tests.support.tiny_models import save_tiny_model, tiny_vocabulary

MESSAGES = [{"role": "user", "content": "1+1=?"}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny_model(tmp_path / "model")


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_inspect_reads_everything(folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    info, vocabulary = inspect_policy(str(folder))
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert vocabulary == tiny_vocabulary()
    assert info.location == str(folder.resolve()) and info.revision == ""
    assert info.vocab_size == 100 and info.dtype == "float32"
    assert info.n_parameters == model.num_parameters()
    assert info.tokenizer_fingerprint == tokenizer_fingerprint(vocabulary)
    assert len(info.policy_id) == len(info.tokenizer_fingerprint) == 16
    int(info.policy_id, 16)


def test_identity_is_of_content_not_of_place(folder: Path, tmp_path: Path) -> None:
    original = inspect_policy(str(folder))[0]
    copy = tmp_path / "elsewhere" / "renamed"
    shutil.copytree(folder, copy)
    edit_config(copy, _name_or_path="x", transformers_version="9.9", use_cache=False)
    (copy / "chat_template.jinja").write_text("{{ messages }}")
    assert inspect_policy(str(copy))[0].policy_id == original.policy_id


def test_weights_config_and_tokenizer_each_change_the_identity(
    folder: Path, tmp_path: Path
) -> None:
    original = inspect_policy(str(folder))[0]
    seeded = inspect_policy(str(save_tiny_model(tmp_path / "seeded", seed=1)))[0]
    swapped = inspect_policy(str(save_tiny_model(tmp_path / "swapped", vocab="swapped")))[0]
    edit_config(folder, rms_norm_eps=0.5)
    configured = inspect_policy(str(folder))[0]

    ids = {info.policy_id for info in (original, seeded, swapped, configured)}
    assert len(ids) == 4
    assert seeded.tokenizer_fingerprint == original.tokenizer_fingerprint
    assert swapped.tokenizer_fingerprint != original.tokenizer_fingerprint


def test_one_flipped_bit_of_weights_changes_the_identity(folder: Path) -> None:
    before = inspect_policy(str(folder))[0].policy_id
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert inspect_policy(str(folder))[0].policy_id != before


def test_an_added_token_changes_the_tokenizer_fingerprint(folder: Path) -> None:
    before = inspect_policy(str(folder))[0].tokenizer_fingerprint
    tokenizer = load_tokenizer(str(folder))
    tokenizer.add_tokens(["<think>"])
    tokenizer.save_pretrained(folder)
    info, vocabulary = inspect_policy(str(folder))
    assert vocabulary[100] == "<think>"
    assert info.tokenizer_fingerprint != before


def test_hash_of_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "PIECE_BYTES", 1000)
    monkeypatch.setattr(weights, "READ_BYTES", 300)
    rng = np.random.default_rng(0)
    a, b = tmp_path / "a", tmp_path / "b"
    content = rng.bytes(4500)
    a.write_bytes(content)
    b.write_bytes(content[:10])
    digest = hash_files([a, b])
    assert digest == hash_files([a, b])
    assert digest != hash_files([b, a])
    for position in (0, 299, 300, 999, 1000, 4499):
        changed = bytearray(content)
        changed[position] ^= 1
        a.write_bytes(changed)
        assert hash_files([a, b]) != digest
    # Bytes that move from one file to the next are another model.
    a.write_bytes(content[:2000])
    whole = hash_files([a])
    a.write_bytes(content[:1000])
    b.write_bytes(content[1000:2000])
    assert hash_files([a, b]) != whole


def test_tied_weights_count_once_in_sharded_files(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    expected = inspect_policy(str(folder))[0].n_parameters
    tensors = load_file(folder / "model.safetensors")
    embedding = tensors.pop("model.embed_tokens.weight")
    (folder / "model.safetensors").unlink()
    shards = {
        "model-1.safetensors": {
            "model.embed_tokens.weight": embedding,
            "lm_head.weight": embedding.clone(),
        },
        "model-2.safetensors": tensors,
    }
    for name, part in shards.items():
        save_file(part, folder / name)
    # A file that the index does not name is no part of the model.
    save_file({"other": embedding.clone()}, folder / "consolidated.safetensors")
    index = {"weight_map": {key: name for name, part in shards.items() for key in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    files = weight_files(folder)
    assert [path.name for path in files] == list(shards)
    assert inspect_policy(str(folder))[0].n_parameters == expected
    assert count_parameters(files, tied=False).count == expected + embedding.numel()
    (folder / "model-2.safetensors").unlink()
    with pytest.raises(InputError, match=r"(?s)lacks model-2.safetensors.*index.json names it"):
        inspect_policy(str(folder))


def test_dtype_is_the_commonest_by_parameters(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    path = tmp_path / "model.safetensors"
    tensors = {
        "a": torch.zeros(4, 5, dtype=torch.bfloat16),
        "b": torch.zeros(3),
        "c": torch.zeros(3),
    }
    save_file(tensors, path)
    found = count_parameters([path], tied=True)
    assert (found.count, found.dtype) == (26, "bfloat16")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", r"(?s)lacks config.json.*model.save_pretrained"),
        ("model.safetensors", r"(?s)lacks model.safetensors.*model.save_pretrained"),
        ("tokenizer.json", r"(?s)no tokenizer.*tokenizer.save_pretrained"),
    ],
)
def test_a_missing_file_is_named(folder: Path, missing: str, message: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(InputError, match=message):
        inspect_policy(str(folder))


def test_an_adapter_alone_is_no_policy(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"(?s)adapter.*merge"):
        inspect_policy(str(folder))


@pytest.mark.parametrize("kept", [4, 40, -1])
def test_truncated_weights_are_refused(folder: Path, kept: int) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        inspect_policy(str(folder))


def test_a_pointer_in_place_of_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InputError, match=r"43 bytes cannot hold its header"):
        inspect_policy(str(folder))


def test_malformed_config_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json is not valid JSON"):
        inspect_policy(str(folder))


@pytest.mark.parametrize("location", ["./nowhere", "/no/such/folder", "a/b/c"])
def test_a_missing_folder_is_not_looked_up_on_the_hub(location: str) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        inspect_policy(location)


def test_a_revision_needs_a_hub_id(folder: Path) -> None:
    with pytest.raises(InputError, match="revision 'v2' was given for the folder"):
        inspect_policy(str(folder), "v2")


def test_hub_snapshot(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "snapshots" / "0a1b2c"
    shutil.copytree(folder, snapshot)
    asked: list[Any] = []

    def download(repo_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((repo_id, revision))
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    info, _ = inspect_policy("owner/model-1.5B", "main")
    assert asked == [("owner/model-1.5B", "main")]
    assert (info.location, info.revision) == ("owner/model-1.5B", "0a1b2c")
    assert info.policy_id == inspect_policy(str(folder))[0].policy_id


def test_hub_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(NotFoundError, match=r"owner/model is neither a folder here nor can it be"):
        inspect_policy("owner/model")


def test_hub_repository_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import errors

    def download(*_: Any, **__: Any) -> str:
        raise errors.RepositoryNotFoundError.__new__(errors.RepositoryNotFoundError)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(NotFoundError, match="nor a repository on the hub"):
        inspect_policy("owner/model")


def test_tokenizer_difference_is_readable() -> None:
    default, swapped = tiny_vocabulary(), tiny_vocabulary("swapped")
    extended = tiny_vocabulary("extended")
    assert tokenizer_difference(default, default) == ""
    seven, eight = default.index("7"), default.index("8")
    assert tokenizer_difference(default, swapped) == (
        f"2 of 100 token ids differ: id {seven}: '7' vs '8'; id {eight}: '8' vs '7'"
    )
    assert tokenizer_difference(default, swapped, limit=1).endswith("'7' vs '8'; and 1 more")
    assert tokenizer_difference(default, extended) == "sizes 100 vs 103"


def test_fingerprint_separates_tokens() -> None:
    assert tokenizer_fingerprint(["ab", "c"]) != tokenizer_fingerprint(["a", "bc"])
    assert tokenizer_fingerprint(["a", "b"]) != tokenizer_fingerprint(["b", "a"])
    assert len(tokenizer_fingerprint(["\ud800"])) == 16


def test_render_chat(folder: Path) -> None:
    tokenizer = load_tokenizer(str(folder))
    ids = render_chat(tokenizer, MESSAGES)
    assert all(type(token_id) is int for token_id in ids)
    assert tokenizer.decode(ids) == "user: 1+1=?\nassistant: "
    own = render_chat(tokenizer, MESSAGES, "Q{{ messages[0]['content'] }}A")
    assert tokenizer.decode(own) == "Q1+1=?A"
    two = [{"role": "system", "content": "Add."}, *MESSAGES]
    assert tokenizer.decode(render_plain(tokenizer, two)) == "Add.\n\n1+1=?"


def test_render_chat_without_a_template(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(save_tiny_model(tmp_path / "base", chat_template=False)))
    with pytest.raises(InputError, match=r"(?s)no chat template.*--template FILE.jinja"):
        render_chat(tokenizer, MESSAGES)
    assert render_chat(tokenizer, MESSAGES, "{{ messages[0]['content'] }}") == render_plain(
        tokenizer, MESSAGES
    )


def test_a_template_that_rejects_the_messages(folder: Path) -> None:
    tokenizer = load_tokenizer(str(folder))
    with pytest.raises(InputError, match=r"(?s)rejects the prompt: no system.*roles: user"):
        render_chat(tokenizer, MESSAGES, "{{ raise_exception('no system') }}")


def test_importing_policies_and_checks_loads_nothing_heavy() -> None:
    code = (
        "import sys, s2d_store.policies.identity, s2d_store.engines.output_checks;"
        "import s2d_store.engines.registry;"
        "sys.exit(bool({'torch', 'transformers', 'vllm'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
