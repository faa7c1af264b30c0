"""The ledger: what a store says of a recipe's rounds."""

from __future__ import annotations

from cli.recipes.ledger import Ledger
from cli.recipes.schema import Stage
from cli.recipes.tasks import Task
from s2d_store.policies import registry
from s2d_store.runs import record
from s2d_store.store import Store


def test_rounds_of_an_older_version_keep_their_names(store: Store) -> None:
    """They were named without the recipe, and did not record what they made."""
    opd, grpo = Stage(kind="opd", start="student", rounds=2), Stage(kind="grpo", start="bridge")
    bridge = Task("bridge", "bridge", opd, 0, "bridge", {}, {})
    stage3 = Task("stage3", "stage3", grpo, 0, "stage3", {}, {"bridge": "bridge"})
    tasks = {"bridge": bridge, "stage3": stage3}
    for name in ("paper.bridge.r000", "paper.bridge.r001", "other.stage3.r000"):
        with record.record_run(store, name, "round", {"kind": "opd"}, stage="bridge"):
            pass
    for name in ("bridge.r000", "stage3.r000"):
        registry.register_without_weights(store, name)
    ledger = Ledger(store, "paper", tasks, {})
    # The second round changed no weight.
    assert ledger.policy_after(bridge, 1) == ledger.policy_of(stage3, "bridge") == "bridge.r000"
    assert ledger.datasets_of(bridge) == ["bridge.r000", "bridge.r001"]
    # Another recipe's round under the same bare name is not this one's.
    assert ledger.policy_after(stage3, 0) is None
