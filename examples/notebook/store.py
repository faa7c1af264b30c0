"""A store in a notebook, as cells."""

# %% [markdown]
# A store in a notebook: open this file in Jupyter (jupytext), VS Code or marimo as cells, or run it
# as it is. It reads the store of `make quickstart`, or the one that S2D_STORE names.

# %%
import os
from typing import Any

from s2d_store import LockedDataset, Store, open_dataset

# The last expression of a cell is what a notebook shows; as a script, it is printed.
display: Any = globals().get("display", print)
store = Store.open(os.environ.get("S2D_STORE", "runs/quickstart/store"))
display(store)

# %% [markdown]
# Named queries are a method; `.pl()`, `.df()` and `.arrow()` of what it returns are frames.

# %%
display(store.query("pass_rate", purpose="eval"))

# %% [markdown]
# Rollouts by an SQL condition, with their verdicts; then one of them, its tokens shaded by the KL
# to its teacher.

# %%
wrong = store.rollouts("purpose = 'eval' AND reward = 0").select("rollout_id, policy, extracted")
display(wrong.limit(5))

# %%
scored = store.sql("SELECT min(rollout_id) FROM tokens WHERE scorer IS NOT NULL").fetchall()[0][0]
rollout = store.rollout(scored)
display(rollout)
display(store.tokens(scored).select("position, token, logprob, scorer_logprob, kl").limit(5))

# %% [markdown]
# A locked dataset has a length, rows and frames.

# %%
for (name,) in store.sql("SELECT name FROM datasets ORDER BY created_at LIMIT 1").fetchall():
    dataset: LockedDataset = open_dataset(store, name)
    row = next(iter(dataset))
    display(dataset)
    print(len(dataset), row["update"], len(row["response_token_ids"]))
    print(dataset.arrow(["rollout_id", "update"]).slice(0, 2))
