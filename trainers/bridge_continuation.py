"""Bridge continuation, a control of Stage 3: more updates of the bridge's loss, no reward at all.

    python -m trainers bridge_continuation --dataset FOLDER --student FOLDER --output FOLDER

The dataset matches Stage 3's updates, rows per update and response tokens with stored bridge
rollouts; here only the objective is chosen, that of the bridge which Stage 3 follows. The paper's
replay control is another one: GRPO, on a dataset of kind `replay`.
"""

from __future__ import annotations

from trainers import run
from trainers.config import BridgeContinuationConfig
from trainers.loop import OnUpdate, TrainResult
from trainers.opd import bridge_objective


def train_bridge_continuation(
    config: BridgeContinuationConfig, on_update: OnUpdate | None = None
) -> TrainResult:
    """Train a student on a locked `bridge_continuation` dataset; continues the run in its output.

    Raises:
        S2DError: see `trainers.run.run`.
    """
    return run.run(
        config,
        "bridge_continuation",
        lambda dataset: bridge_objective(config, dataset),
        on_update,
    )
