"""The pages, a file each, in the order of the navigation."""

from viewer.pages import (
    audits,
    books,
    compare,
    dataset,
    datasets,
    experiment,
    rollout,
    rollouts,
    sql_box,
    topk,
)

PAGES = (
    experiment.PAGE,
    rollouts.PAGE,
    rollout.PAGE,
    topk.PAGE,
    audits.PAGE,
    compare.PAGE,
    datasets.PAGE,
    dataset.PAGE,
    books.PAGE,
    sql_box.PAGE,
)
