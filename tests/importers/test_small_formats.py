"""Formats without a dump at hand: a small file of each, by the schema, and what becomes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2d_store.errors import InputError
from s2d_store.importers.import_dump import Imported, import_dump
from s2d_store.importers.settings import ImportConfig
from s2d_store.store import Store

Run = Callable[..., tuple[Imported, list[dict[str, Any]]]]
USER = {"role": "user", "content": "1+1="}


@pytest.fixture
def run(tmp_path: Path, store: Store) -> Run:
    """Write rows to a file, import it as format auto, and return what was stored, in order."""

    def imported(name: str, *rows: Any, **settings: Any) -> tuple[Imported, list[dict[str, Any]]]:
        path = tmp_path / "dump" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(list(rows)), path)
        elif path.suffix == ".json":
            path.write_text(json.dumps(rows[0]))
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        given = {"policy": "p", "rejects": str(tmp_path / "rejects.jsonl"), **settings}
        done = import_dump(store, ImportConfig(paths=(str(tmp_path / "dump"),), **given))
        found = store.sql(
            "SELECT r.*, p.messages AS asked, o.name AS policy FROM rollouts r JOIN prompts p "
            "USING (prompt_id) JOIN policies o ON r.policy_id = o.policy_id ORDER BY "
            "(r.source ->> '$.line')::INT, (r.source ->> '$.part')::INT"
        )
        return done, found.to_arrow_table().to_pylist()

    return imported


def rewards(store: Store) -> list[tuple[str, float | None]]:
    text = "SELECT verifier, reward FROM rewards ORDER BY verifier, reward"
    return store.sql(text).fetchall()


def name_of(done: Imported) -> str:
    return done.chosen.importer.name


def test_nemo_rl(run: Run, store: Store) -> None:
    """Lists of one, padding on the right, logprobs of 0.0 where nothing was sampled."""
    row = {
        "content": [["1+1=", "2"]],
        "rewards": [1.0],
        "input_lengths": [5],
        "token_ids": [[7, 8, 5, 6, 2, 0, 0]],
        "token_loss_mask": [[0, 0, 1, 0, 1, 0, 0]],
        "sample_loss_mask": [1.0],
        "generation_logprobs": [[0.0, 0.0, -0.5, 0.0, -0.25, 0.0, 0.0]],
        "idx": [3],
    }
    done, (stored,) = run("train_data_step4.jsonl", row)
    assert (name_of(done), stored["policy"]) == ("nemo-rl", "p.v4")
    assert stored["prompt_token_ids"] == [7, 8] and stored["response_token_ids"] == [5, 6, 2]
    assert stored["response_mask"] == [True, False, True] and stored["sampled_tokens"] == 2
    assert stored["sampler_logprobs"] == [-0.5, None, -0.25]
    assert rewards(store) == [("imported-reward", 1.0)]


def test_nemo_rl_validation(run: Run, store: Store) -> None:
    said = {"role": "assistant", "content": "2"}
    done, (stored,) = run("val_data_step9.jsonl", {"content": [USER, said], "rewards": 0.5})
    assert (name_of(done), stored["purpose"], stored["policy"]) == ("nemo-rl", "eval", "p.v9")
    assert (stored["response_text"], stored["asked"][0]["content"]) == ("2", "1+1=")


def test_miles_columns(run: Run) -> None:
    row = {
        "tokens": [7, 8, 5, 6, 0],
        "loss_mask": [1, 0],
        "rollout_log_probs": [-0.5, 0.0],
        "total_length": 4,
    }
    done, (stored,) = run("rollout_3.parquet", row)
    assert name_of(done) == "miles"
    assert (stored["prompt_token_ids"], stored["response_token_ids"]) == ([7, 8], [5, 6])
    assert stored["sampler_logprobs"] == [-0.5, None]


def test_tinker_calls_and_summaries(run: Run, store: Store, tmp_path: Path) -> None:
    scope = {"run_id": "r", "split": "train", "iteration": 1, "group_idx": 0, "policy_version": 6}
    summary = {"split": "train", "iteration": 1, "group_idx": 0, "total_reward": 1.0}
    lines = [summary | {"traj_idx": i, "steps": [{"reward": 1.0}] * (i + 1)} for i in range(2)]
    beside = tmp_path / "iteration_000001" / "train_rollout_summaries.jsonl"
    beside.parent.mkdir()
    beside.write_text("".join(json.dumps(line) + "\n" for line in lines))
    call = {
        "kind": "sample",
        "scope": scope,
        "base_model": "toy/base",
        "prompt_tokens": [7, 8],
        "sampling_params": {"temperature": 1.0, "max_tokens": 8, "stop": ["x"]},
        "samples": [
            {"tokens": [5, 2], "logprobs": [-0.5, -0.25], "stop_reason": "stop"},
            {"tokens": [6], "logprobs": [-1.0], "stop_reason": "length"},
        ],
    }
    failed = {**call, "samples": [], "status": "error", "error": "timeout"}
    done, stored = run("sample.jsonl", call, failed, policy="")
    assert (name_of(done), len(stored)) == ("tinker", 2)
    assert done.rejects == {"a call without samples": 1}
    assert {row["policy"] for row in stored} == {"toy--base.v6"}
    assert [row["finish_reason"] for row in stored] == ["stop", "length"]
    assert json.loads(stored[0]["sampling_extra"]) == {"stop": ["x"]}
    # The second trajectory has two steps: its reward is not one call's.
    assert rewards(store) == [("imported-total_reward", 1.0)]


def test_skyrl(run: Run, store: Store) -> None:
    row = {
        "input_prompt": "<bos>1+1=",
        "output_response": "2<eos>",
        "score": [0.0, 1.0],
        "stop_reason": "stop",
        "env_class": "math",
        "env_extras": {"reward_spec": {"ground_truth": "2"}},
        "data_source": "toy",
    }
    done, (stored,) = run("global_step_5_evals/toy.jsonl", row)
    assert (name_of(done), stored["policy"], stored["purpose"]) == ("skyrl", "p.v5", "eval")
    assert (stored["response_text"], stored["tokens_from"]) == ("2<eos>", "none")
    assert rewards(store) == [("imported-score", 1.0)]


def test_areal(run: Run, store: Store) -> None:
    row = {"task_id": "t", "seqlen": 6, "prompt_len": 4, "head_version": 2, "tail_version": 3}
    row |= {"version_rle": [[2, 1], [3, 1]], "reward": 0.7, "original_reward": 1.0}
    row |= {"prompt": "<bos>1+1=", "completion": "2<eos>"}
    done, stored = run("eval-rollout/3/t.jsonl", *(row | {"sample_idx": i} for i in (0, 1)))
    assert (name_of(done), len(stored)) == ("areal", 2)
    assert [row["sample_index"] for row in stored] == [0, 1]
    assert [span["start"] for span in stored[0]["policy_spans"]] == [0, None]
    assert stored[0]["purpose"] == "eval"
    assert rewards(store) == [("imported-reward", 1.0)] * 2


def test_ms_swift_columns_and_rows(run: Run, store: Store) -> None:
    columns: dict[str, list[Any]] = {
        "step": ["3", "3"],
        "prompt": ["a", "a"],
        "completion": ["x", "y"],
    }
    columns |= {"accuracy": [1.0, 0.0], "advantages": [0.7, -0.7]}
    row = {"gen_step": 4, "prompt": "b", "completion": "z", "reward": 2.0}
    done, stored = run("completions.jsonl", columns, row)
    assert name_of(done) == "ms-swift"
    assert [r["response_text"] for r in stored] == ["x", "y", "z"]
    assert [r["policy"] for r in stored] == ["p.v3", "p.v3", "p.v4"]
    assert stored[0]["group_id"] == stored[1]["group_id"] != stored[2]["group_id"]
    assert rewards(store) == [
        ("imported-accuracy", 0.0),
        ("imported-accuracy", 1.0),
        ("imported-reward", 2.0),
    ]


def episode(**changes: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": "2"}
    calls = [
        {"prompt_ids": [7, 8], "response_ids": [5], "logprobs": [-0.5], "weight_version": 1},
        {"prompt_ids": [7, 8, 5, 9], "response_ids": [2], "logprobs": [-0.25], "weight_version": 2},
    ]
    calls[1]["chat_completions"] = [USER, said]
    trajectory = {"uid": "u", "name": "solver", "reward": 1.0, "steps": calls}
    return {
        "id": "t:0",
        "task": {"q": 1},
        "trajectories": [trajectory],
        "is_correct": True,
    } | changes


def test_rllm_steps_are_one_sequence(run: Run, store: Store) -> None:
    done, (stored,) = run("episode_000000_t.json", episode())
    assert (name_of(done), stored["agent"], stored["policy"]) == ("rllm", "solver", "p.v1")
    assert (stored["prompt_token_ids"], stored["response_token_ids"]) == ([7, 8], [5, 9, 2])
    assert stored["response_mask"] == [True, False, True]
    assert stored["sampler_logprobs"] == [-0.5, None, -0.25]
    assert stored["asked"][0]["content"] == "1+1="
    assert rewards(store) == [("imported-reward", 1.0)]


def test_steps_that_do_not_go_on_are_text_alone(run: Run) -> None:
    made = episode()
    made["trajectories"][0]["steps"][1]["prompt_ids"] = [7, 1, 5, 9]
    _, (stored,) = run("episode_000000_t.json", made)
    assert (stored["tokens_from"], stored["response_text"]) == ("none", "2")


def test_atropos_sentinels(run: Run, store: Store) -> None:
    group = {
        "tokens": [[7, 8, 5, 2], [7, 8, 6, 2]],
        "masks": [[-100, -100, 5, 2], [-100, -100, 6, 2]],
        "scores": [1.0, -1.0],
        "inference_logprobs": [[1.0, 1.0, -0.5, -0.25], [1.0, 1.0, -0.75, -0.125]],
    }
    wrong = group | {"masks": [[-100, -100, 5, 2], [-100, -100, 5, 2]]}
    done, stored = run("groups.jsonl", group, wrong)
    assert (name_of(done), done.rejects) == ("atropos", {"a record that does not fit": 1})
    assert [r["response_token_ids"] for r in stored] == [[5, 2], [6, 2]]
    assert stored[1]["sampler_logprobs"] == [-0.75, -0.125]
    assert stored[0]["group_id"] == stored[1]["group_id"]


def test_trinity_never_opens_its_blob(run: Run, store: Store) -> None:
    said = [USER, {"role": "assistant", "content": "2"}]
    row = {"id": 1, "prompt": "1+1=", "response": "2", "message_list": json.dumps(said)}
    row |= {"reward": 0.5, "model_version": 3, "experience_bytes": "gASV", "consumed": 1}
    done, (stored,) = run("experiences.jsonl", row)
    assert (name_of(done), stored["policy"], stored["tokens_from"]) == ("trinity", "p.v3", "none")
    assert "gASV" not in stored["source"] and '"consumed": 1' in stored["source"]


def test_distillkit_rows_are_of_the_next_token(run: Run, store: Store) -> None:
    row = {
        "input_ids": [1, 5, 2],
        "token_ids": [[9, 5], [2, 9]],
        "top_values": [[-2.0, -0.25], [-0.125, -3.0]],
    }
    outside = row | {"input_ids": [1, 5, 7]}
    done, (stored,) = run("train.parquet", row, outside)
    assert name_of(done) == "distillkit"
    assert done.rejects == {"a token outside its own top-k: its logprob is not in the file": 1}
    assert (stored["sampled_tokens"], stored["response_logprobs"]) == (0, [-0.25, -0.125])
    top = store.sql("SELECT k, support, token_ids, logprobs, sampled_logprobs FROM topk").fetchall()
    assert top == [(2, "own", [5, 9, 2, 9], [-0.25, -2.0, -0.125, -3.0], [-0.25, -0.125])]


def test_axolotl_targets_stay_out(run: Run, store: Store) -> None:
    row = {
        "input_ids": [1, 5, 2],
        "labels": [-100, 5, 2],
        "target_token_ids": [[5, 9], [2, 9], [0, 0]],
        "target_logprobs": [[-0.25, -1.5], [-0.125, -2.0], [0.0, 0.0]],
        "target_mask": [[1, 1], [1, 1], [0, 0]],
    }
    done, (stored,) = run("prepared.parquet", row)
    assert name_of(done) == "axolotl-kd"
    assert (stored["prompt_token_ids"], stored["response_token_ids"]) == ([1], [5, 2])
    assert store.sql("SELECT count(*) FROM topk").fetchall() == [(0,)]


def test_verifiers_trajectories_with_tokens(run: Run) -> None:
    tokens = {"prompt_ids": [7, 8], "completion_ids": [5, 2], "completion_logprobs": [-0.5, -1.0]}
    said = [{"role": "assistant", "content": "2"}]
    row = {"example_id": 0, "prompt": [USER], "completion": said, "reward": 1.0}
    row |= {"is_completed": True, "is_truncated": True, "answer": 2, "info": {"level": 1}}
    row |= {"trajectory": [{"prompt": [USER], "completion": said, "tokens": tokens}]}
    done, (stored,) = run("results.jsonl", row)
    assert (name_of(done), stored["tokens_from"]) == ("verifiers-v0", "sampled")
    assert stored["sampler_logprobs"] == [-0.5, -1.0] and stored["finish_reason"] == "length"


def test_lm_eval_filters_tell_one_rollout(run: Run, store: Store) -> None:
    row = {"doc_id": 0, "doc": {"q": 1}, "target": 2, "resps": [["so 2"]]}
    row |= {"arguments": {"gen_args_0": {"arg_0": "1+1=", "arg_1": {"max_gen_toks": 8}}}}
    row |= {"metrics": ["exact_match"], "doc_hash": "d", "prompt_hash": "p", "target_hash": "t"}
    strict = row | {"filter": "strict", "filtered_resps": ["[invalid]"], "exact_match": 0.0}
    flexible = row | {"filter": "flexible", "filtered_resps": ["2"], "exact_match": 1.0}
    scored = row | {"resps": [[[-1.5, True]]], "filtered_resps": [0], "filter": "none"}
    done, (stored,) = run("samples_toy_2026.jsonl", strict, flexible, scored)
    assert (name_of(done), stored["max_tokens"]) == ("lm-eval", 8)
    assert done.rejects == {"a log-likelihood request: nothing was sampled": 1}
    names = [name for name, _ in rewards(store)]
    assert len(names) == 2 and all(name.startswith("imported-exact_match-") for name in names)


def test_prime_rl_branches_are_rollouts(run: Run) -> None:
    """A rollout per leaf; the second says where it forked off. Annotations are joined by trace."""

    def node(parent: int | None, role: str, ids: list[int]) -> dict[str, Any]:
        sampled = role == "assistant"
        made = {"message": {"role": role, "content": "x"}, "sampled": sampled, "token_ids": ids}
        made |= {"mask": [sampled] * len(ids), "logprobs": [-0.5] * len(ids) if sampled else []}
        return made if parent is None else made | {"parent": parent}

    nodes = [node(None, "user", [7, 8]), node(0, "assistant", [5, 6])]
    nodes += [node(1, "tool", [9]), node(2, "assistant", [2]), node(1, "assistant", [4])]
    trace = {"id": "t", "nodes": nodes, "rewards": {"a": {"score": 2.0, "weight": 0.5}}}
    row = {"id": "e", "task": {"type": "T", "data": {}}, "group": {"id": "g"}, "traces": [trace]}
    done, (one, two) = run("traces.jsonl", row)
    assert name_of(done) == "prime-rl"
    assert (one["response_token_ids"], two["response_token_ids"]) == ([5, 6, 9, 2], [5, 6, 4])
    assert one["response_mask"] == [True, True, False, True]
    assert (two["parent_rollout_id"], two["parent_tokens"]) == (one["rollout_id"], 2)


# A pickle that would run a command when it is opened as one.
PICKLE = b"\x80\x02cos\nsystem\nX\x0c\x00\x00\x00touch opened\x85R."


def test_a_pickle_is_refused(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rollout_1.pt").write_bytes(PICKLE)
    config = ImportConfig(paths=("rollout_1.pt",), policy="p", rejects="rejects.jsonl")
    with pytest.raises(InputError, match="nothing could be imported: 1 rows were refused"):
        import_dump(store, config)
    assert "a pickle can run code, so s2d opens none" in Path("rejects.jsonl").read_text()
    assert not Path("opened").exists()
