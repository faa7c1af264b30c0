"""Controls as recipe stages: replay (R7), fresh OPD, continuations follow their treatment."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.recipes.parse import read_recipe
from s2d_store.errors import InputError
from s2d_store.store import Store
from tests.conftest import Cli
from tests.support.tiny_recipe import Write

HALVES = [
    f"split = 'train' AND prompt_id IN (SELECT prompt_id FROM prompts WHERE split = 'train' "
    f"ORDER BY prompt_id LIMIT 4 OFFSET {offset})"
    for offset in (0, 4)
]
CONTROLS = f"""
[stage.rl]
kind = "grpo"
start = "teacher"
role = "teacher"
prompts = "{HALVES[0]}"
generate.n = 4
dataset = {{ prompts_per_update = 2, keep_equal = true }}

[stage.replay]
kind = "replay"
treatment = "stage3"

[stage.fresh]
kind = "fresh_opd"
treatment = "stage3"
teacher = "rl"
generate.top_logprobs = 4

[stage.more]
kind = "continuation"
treatment = "stage3"
dataset = {{ tolerance = 0.9, passes = 4 }}

[stage.control]
"""
CHANGES = (
    ("\n[stage.control]\n", CONTROLS),
    ('teacher = "teacher"', 'teacher = "rl"'),
    (
        'start = "bridge"\nprompts = "split = \'train\'"\nrounds = 2\nprompts_per_round = 4\n',
        f'start = "bridge"\nprompts = "{HALVES[1]}"\nrounds = 2\nprompts_per_round = 4\n'
        'train.lr = 1e-2\ntrain.lr_schedule = "cosine"\n',
    ),
    ('["student", "stage3", "control"]', '["stage3", "replay", "fresh", "more", "control"]'),
    ('baseline = "student"', 'baseline = "replay"'),
)  # fmt: skip


def test_a_control_takes_over_what_its_treatment_says(recipe: Write) -> None:
    stages = read_recipe(recipe("a", *CHANGES)).stage
    treated = stages["stage3"]
    for name in ("replay", "fresh", "more", "control"):
        stage = stages[name]
        assert stage.start == treated.start == "bridge"
        assert stage.train["lr"] == 1e-2, "its treatment's, not the defaults'"
        assert stage.train["lr_schedule"] == "cosine"
    assert stages["replay"].generate == treated.generate
    assert stages["fresh"].generate.n == 4 and stages["fresh"].generate.top_logprobs == 4


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('kind = "replay"\n', 'kind = "replay"\nstart = "warmup"\n',
         "start is 'warmup', its treatment's is 'bridge'"),
        ('kind = "replay"\n', 'kind = "replay"\ntrain.lr = 1e-3\n',
         "train.lr is 0.001, its treatment's is 0.01"),
        ('kind = "replay"\n', 'kind = "replay"\ntrain.clip = [0.1, 0.1]\n',
         "train.clip is [0.1, 0.1], its treatment's is [0.2, 0.28]"),
        ('kind = "replay"\n', 'kind = "replay"\ngenerate.n = 2\n',
         "generate.n is 2, its treatment's is 4"),
        ('kind = "fresh_opd"\n', 'kind = "fresh_opd"\ngenerate.temperature = 0.7\n',
         "generate.temperature is 0.7, its treatment's is 1.0"),
        ('kind = "replay"\n', 'kind = "replay"\nrounds = 3\n',
         "has rounds, which a stage of kind replay does not take"),
        ("generate.n = 4\ndataset = { prompts_per_update = 2, keep_equal = true }\n\n[stage.eval]",
         "generate.n = 4\ndataset = { prompts_per_update = 2 }\n\n[stage.eval]",
         "its treatment stage3 drops groups whose rewards are all equal"),
        ('kind = "replay"\ntreatment = "stage3"', 'kind = "replay"\ntreatment = "control"',
         "treatment 'control' is no grpo stage"),
    ],
)  # fmt: skip
def test_what_contradicts_the_treatment_is_refused(
    recipe: Write, old: str, new: str, says: str
) -> None:
    with pytest.raises(InputError) as error:
        read_recipe(recipe("a", *CHANGES, (old, new)))
    assert says in str(error.value)


def test_a_replay_without_spent_labels_is_refused_before_it_starts(cli: Cli, recipe: Write) -> None:
    raw = [change for change in CHANGES if change[1] != 'teacher = "rl"']
    done = cli("run", recipe("a", *raw, ('teacher = "rl"\ngen', 'teacher = "teacher"\ngen')))
    assert done.code == 1 and "a round of stage3 has 4 prompts, and only 0 labels" in done.err


@pytest.mark.slow
def test_controls_run_and_are_proved(cli: Cli, recipe: Write, tmp_path: Path) -> None:
    file = recipe("a", *CHANGES)
    # Rewards of a group must differ: a treatment whose first round moves nothing has no optimizer
    # to go on with, which its controls have.
    verifier = tmp_path / "my_verifiers.py"
    by_length, by_text = "len(response) / 10", "sum(map(ord, response)) % 10 / 10"
    assert by_length in verifier.read_text()
    verifier.write_text(verifier.read_text().replace(by_length, by_text))
    planned = cli("run", file, "--plan").out
    lines = {line.split()[0]: line.split() for line in planned.splitlines() if line.strip()}
    assert lines["replay"][-3:-1] == ["4", "4"], "updates, labels"
    assert lines["fresh"][-3:-1] == lines["more"][-3:-1] == ["4", "0"]
    done = cli("run", file)
    assert done.code == 0, done.err
    store = Store.open(Path(file).parent / "store")
    sampled = dict(
        store.sql(
            "SELECT split_part(run_id, '.', 2), list(DISTINCT prompt_id ORDER BY prompt_id) "
            "FROM rollouts WHERE purpose = 'train' GROUP BY 1"
        ).fetchall()
    )
    assert sampled["replay"] == sampled["rl"], "labels that the teacher spent"
    assert sampled["fresh"] == sampled["stage3"] != sampled["rl"]
    assert "more" not in sampled and "control" not in sampled
    spent = store.sql(
        "SELECT stage, count(DISTINCT prompt_id), sum(visits) FROM spent_labels GROUP BY ALL"
    ).fetchall()
    by_stage = {stage: figures for stage, *figures in spent}
    assert by_stage == {"rl": [4, 4], "stage3": [4, 8], "replay": [4, 8]}
    new = store.sql(
        "SELECT count(*) FROM spent_on_line('tiny.replay.r001') "
        "ANTI JOIN (FROM spent_on_line('tiny.bridge.r002')) USING (prompt_id)"
    )
    assert new.fetchall() == [(0,)]
    again = cli("run", file)
    assert again.code == 0 and "replay from" not in again.err, again.err
    audited = cli(
        "audit", "replay_matched", "--store", store.root, "-p", "tolerance=0.9", "--strict"
    )
    assert audited.code == 0, audited.out
