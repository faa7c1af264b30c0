"""The matched replay control: the bridge's objective on stored rollouts, on a Stage 3 schedule.

    python -m trainers replay --dataset datasets/NAME --student FOLDER --output runs/NAME

What is matched (updates, rows per update, response tokens, no label) is the dataset's doing; here
only the objective is chosen, that of the bridge which Stage 3 follows.
"""

from __future__ import annotations

from trainers import run
from trainers.config import ReplayConfig
from trainers.loop import OnUpdate, TrainResult
from trainers.opd import bridge_objective


def train_replay(config: ReplayConfig, on_update: OnUpdate | None = None) -> TrainResult:
    """Train a student on a locked `replay` dataset; continues the run in `config.output` if any.

    Raises:
        S2DError: see `trainers.run.run`.
    """
    return run.run(config, "replay", lambda dataset: bridge_objective(config, dataset), on_update)
