"""`s2d run`: what is refused before any work, and in which words."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import torch

from cli.recipes.parse import read_recipe
from s2d_store.errors import NotFoundError
from s2d_store.store import Store
from tests.conftest import Cli
from tests.support.tiny_models import save_tiny_model
from tests.support.tiny_recipe import Write


def test_a_recipe_over_budget_is_refused_before_any_work(cli: Cli, recipe: Write) -> None:
    file = recipe("g")
    budget = file.parent / "budget.toml"
    budget.write_text("[stage.bridge]\nupdates = 5\n[experiment]\nlabels = 7\n")
    file = recipe("g", ("verify_workers = 1", f'verify_workers = 1\nbudget = "{budget}"'))
    refused = cli("run", file)
    assert refused.code == 1 and "recipe tiny would go over the budget" in refused.err
    assert "stage bridge: updates declared 5, spent 0, left 5, would add 6" in refused.err
    assert "experiment: labels declared 7, spent 0, left 7, would add 8" in refused.err
    store = Store.open(file.parent / "store")
    assert store.sql("SELECT count(*) FROM runs").fetchall() == [(0,)]
    assert cli("run", file, "--plan").code == 1


BAD: list[tuple[tuple[str, str], str]] = [
    (("verify_workers", "verify_worker"),
     "unknown key 'verify_worker'; did you mean 'verify_workers'"),
    (("prompts_per_round = 4\ngenerate", "prompts_per_rond = 4\ngenerate"),
     "unknown key 'stage.bridge.prompts_per_rond'; did you mean "
     "'stage.bridge.prompts_per_round'"),
    (('kind = "opd"', 'kind = "odp"'),
     "stage.bridge.kind is 'odp'; did you mean 'opd'?\n  why: it must be one of "
     "bridge_continuation, continuation, fresh_opd, grpo, opd, replay, sft, warmup, eval, or have"),
    (("rounds = 3", 'rounds = "3"'), "stage.bridge.rounds is '3'"),
    (("rounds = 3", "rounds = 0"), "[stage.bridge]: rounds is 0"),
    (("lr = 1e-3", "lr = -1"),
     "[defaults.train]: train: lr is -1\n  why: it must be above 0\n  fix: give another"),
    (("lr = 1e-3", "learning_rate = 1e-3"), "train.learning_rate is no setting of s2d train"),
    (("lr = 1e-3", 'lr = "fast"'),
     "[defaults.train]: train.lr is 'fast'\n  why: it must be a number\n"),
    (("lr = 1e-3", 'betas = [0.9, "b"]'),
     "train.betas is [0.9, 'b']\n  why: it must be a list of numbers\n"),
    (("lr = 1e-3", "seed = true"), "train.seed is True\n  why: it must be a whole number\n"),
    (("lr = 1e-3", "precision = 16"), "train.precision is 16\n  why: it must be a text\n"),
    (("lr = 1e-3", 'trackers = ["paper"]'),
     "[defaults.train]: train: tracker 'paper' is unknown\n"),
    (("my_verifiers:Length", "nobody"), "no verifier is named 'nobody'; available: "),
    (("[defaults.train]", "[defaults.trains]"), "unknown key 'defaults.trains'"),
    (("dataset.rows_per_update = 4", "dataset.row_per_update = 4"),
     "[stage.bridge]: dataset.row_per_update cannot be given: its query has no such parameter"),
    (("rounds = 3", "rounds = 3\ngenerate.temperature = 0.7"),
     "[stage.control] trains on rollouts drawn at temperature 0.7, top_p 1, top_k 0, those of"),
    (("generate.n = 4", "generate.n = 4\ngenerate.top_k = 5"),
     "[stage.stage3] trains on rollouts drawn at temperature 1, top_p 1, top_k 5\n  why: stored"),
    (("dataset.rows_per_update = 4", 'dataset.teacher = "teacher"'),
     "dataset.teacher cannot be given: the stage fills it in"),
    (('start = "student"\nteacher', 'start = "stage3"\nteacher'),
     "stages of the recipe wait for each other: "),
    (('start = "warmup"', 'start = "warmpu"'),
     "[stage.bridge] names 'warmpu', which is neither a stage nor a policy"),
    (('start = "warmup"\n', ""), "[stage.bridge] lacks start"),
    (('treatment = "stage3"', 'treatment = "warmup"'),
     "treatment 'warmup' is no grpo stage\n  why: the recipe has stage3\n"),
    (('bridge = ["bridge"]', 'bridge = ["stage3"]'), "bridge 'stage3' is no opd or warmup stage"),
    (('bridge = ["bridge"]', 'bridge = "bridge"'), "stage.control.bridge is 'bridge'"),
    (('rollouts_of = "warmup"', 'rollouts_of = "bridge"'), "is no sft or warmup stage"),
    (('baseline = "student"', 'baseline = "bridge"'), "'bridge' is not one of its policies"),
    (('treatment = "stage3"', 'treatment = "stage3"\nteacher = "teacher"'),
     "[stage.control] has teacher, which a stage of kind bridge_continuation does not take"),
    (("rounds = 3\nprompts_per_round = 4\ngenerate.top_logprobs = 4",
      "rounds = 3\nprompts_per_round = 4"),
     "[stage.bridge] keeps no top-k of the student"),
    (("dataset.rows_per_update = 4", 'dataset.rows_per_update = 4\nscore.support = "union"'),
     "[stage.bridge]: score.top_logprobs is 0\n  why: a union needs the teacher's own top k"),
    (('name = "tiny"', 'name = "../tiny"'), "recipe '../tiny' is not a usable name"),
    (("prompts = \"split = 'test'\"", ""),
     "eval would evaluate on 8 prompts that warmup trains on"),
    (("dataset.rows_per_update = 4", 'dataset.rows_per_update = 4\nscore.engine = "vllm"'),
     "[stage.bridge]: engine vllm cannot score the ids that the sampling policy ranked highest\n"
     "  why: vllm scores its own top k alone\n  fix: score.engine transformers, or score.support"),
    (("[policies]", "[workers]\ncount = 0\n[policies]"),
     "workers.count '0' is no number of workers"),
    (("[policies]", "[workers]\ncount = true\n[policies]"),
     "workers.count is True\n  why: it must be a whole number or a text\n"),
    (("[policies]", "[workers]\ngpus = 2\n[policies]"),
     "workers.gpus is 2 for engine transformers\n  why: it computes on one GPU\n"),
    (("[policies]", '[engine]\nurl = "http://a:1"\n[policies]'),
     "engine.url is 'http://a:1', and no engine uses it\n"),
    (("generate.top_logprobs = 4\ndataset.rows_per_update",
      'generate.top_logprobs = 4\nscore.engine = "server"\ndataset.rows_per_update'),
     "no engine.url is given\n  why: engine server needs to know where its servers are\n"),
    (("[policies]", '[engine]\nname = "server"\nurl = "none.txt"\n[policies]'),
     "none.txt' is neither a URL nor a file of URLs"),
    (("[policies]", '[engine]\nname = "server"\nargs.inflight = 3\n[policies]'),
     "engine server has no argument 'inflight'; did you mean 'in_flight'"),
    (("[policies]", '[engine]\nname = "server"\n[workers]\ncount = 2\n[policies]'),
     "workers.count is 2 for engine server\n     why: its servers are the workers\n"),
    (("[policies]", '[engine]\nname = "server"\n[policies]'),
     "[stage.bridge] would use a server for 'warmup', whose weights this recipe trains\n"),
    (("[policies]", '[engine]\nname = "server"\n[policies]'),
     "[stage.eval] would use the same server for 'student' as for 'teacher'\n"),
    (('name = "tiny"', "name = tiny"), "is not TOML"),
    (('name = "tiny"\n', ""), "lacks name"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BAD, ids=[says[:40] for _, says in BAD])
def test_a_wrong_recipe_is_one_clear_error_before_any_work(
    cli: Cli, recipe: Write, change: tuple[str, str], message: str
) -> None:
    file = recipe("bad", change)
    refused = cli("run", file)
    assert refused.code == 1 and message in refused.err, refused.err
    assert "Traceback" not in refused.err and not (file.parent / "store").exists()


def test_a_teacher_of_other_tokens_is_refused_before_any_work(
    cli: Cli, recipe: Write, student_folder: Path, tmp_path: Path
) -> None:
    other = save_tiny_model(tmp_path / "swapped", seed=2, vocab="swapped")
    file = recipe("a", (f'student = "{student_folder}"', f'student = "{other}"'))
    refused = cli("run", file)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == (
        f"error: {file}:33: [stage.warmup] trains 'student', which has another tokenizer than "
        "'teacher'\n"
        "  why: 2 of 100 token ids differ: id 13: '8' vs '7'; id 14: '7' vs '8'\n"
        "  fix: a student learns from its teacher's token ids: name policies that share a "
        "tokenizer under [policies]\n"
    )
    # Also of what the student becomes in another stage.
    refused = cli("run", file, "--stage", "longer")
    assert refused.code == 1 and "trains 'student', which has another" in refused.err
    assert not (file.parent / "store").exists()


def test_bf16_without_a_gpu_is_refused_before_any_work(cli: Cli, recipe: Write) -> None:
    if torch.cuda.is_available():
        pytest.skip("needs a machine without CUDA")
    # The third stage asks for it: those before it would have run.
    file = recipe("a", ("rounds = 2", 'rounds = 2\ntrain.precision = "bf16"'))
    refused = cli("run", file)
    assert refused.code == 1 and (
        "[stage.stage3]: train: precision is bf16, but no GPU here computes in bfloat16\n"
        in refused.err
    )
    assert "fix: use train.precision auto or train.precision fp32\n" in refused.err
    assert not (file.parent / "store").exists()


@pytest.mark.parametrize(
    ("setting", "says", "fix"),
    [
        ('device = "cuda"', "device 'cuda' is not there", "pass engine.device cpu"),
        ('dtype = "float64"', "dtype 'float64' is unknown", "pass engine.dtype auto"),
    ],
)
def test_an_engine_that_cannot_be_is_refused_before_any_work(
    cli: Cli, recipe: Write, setting: str, says: str, fix: str
) -> None:
    if torch.cuda.is_available():
        pytest.skip("needs a machine without CUDA")
    file = recipe("a")
    file.write_text(f"{file.read_text()}\n[engine]\n{setting}\n")
    refused = cli("run", file)
    assert refused.code == 1 and f":73: [engine]: {says}" in refused.err, refused.err
    assert f"fix: {fix}" in refused.err
    assert not (file.parent / "store").exists()


def test_servers_that_do_not_answer_are_told_before_any_work(cli: Cli, recipe: Write) -> None:
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0))  # not listening: a connection is refused
    url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    opd = "generate.top_logprobs = 4\ndataset.rows_per_update"
    served = opd.replace("\n", '\nscore.engine = "server"\n')
    file = recipe("a", (opd, served), ("[policies]", f'[engine]\nurl = "{url}"\n[policies]'))
    for command in (("run", file, "--plan"), ("run", file)):
        refused = cli(*command)
        assert refused.code == 1 and "[engine]: no endpoint can be used\n" in refused.err
        assert f"why: {url}: " in refused.err and "refused" in refused.err
    assert not (file.parent / "store").exists()
    # A stage that no server scores needs none.
    assert cli("run", file, "--stage", "warmup", "--plan").code == 0
    closed.close()


def test_prompts_that_are_stored_in_another_form_are_told_by_the_plan(
    cli: Cli, recipe: Write, questions: Path
) -> None:
    file = recipe("a")
    store, test = file.parent / "store", file.parent.parent / "test.jsonl"
    other = file.with_name("other.jsonl")
    first, *_ = questions.read_text().splitlines()
    other.write_text(json.dumps(json.loads(first) | {"answer": "-1"}))
    assert cli("init", "--store", store).code == 0
    for given, split in ((other, "train"), (test, "dev")):
        stored = ("prompts", "add", given, "--split", split, "--source", "sums", "--store", store)
        assert cli(*stored).code == 0
    for command in (("run", file, "--plan"), ("run", file)):
        refused = cli(*command)
        assert refused.code == 1
        assert "is stored already, in another form\n" in refused.err
        assert f"{file}:8: the prompt of sums.jsonl line 1 is stored" in refused.err
        assert f"{file}:12: the prompt of test.jsonl line 1 is stored" in refused.err
        assert "stored: answer '-1', split 'train'; now: answer " in refused.err
        assert "stored: answer '21', split 'dev'; now: answer '21', split 'test'" in refused.err
    rows = Store.open(store).sql("SELECT count(*) FROM prompts").fetchall()
    assert rows == [(3,)]


def test_missing_files_are_named(cli: Cli, recipe: Write, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no recipe "):
        read_recipe(tmp_path / "none.toml")
    file = recipe("h", ("sums.jsonl", "none.jsonl"))
    refused = cli("run", file)
    assert refused.code == 1 and "none.jsonl" in refused.err
    assert not (file.parent / "store").exists()
    unknown = cli("run", recipe("i"), "--stage", "stage4")
    assert unknown.code == 1 and "the recipe has no stage 'stage4'" in unknown.err
