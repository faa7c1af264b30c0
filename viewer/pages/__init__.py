"""The pages, a file each, in the order of the navigation."""

from viewer.pages import rollout, rollouts, topk

PAGES = (rollouts.PAGE, rollout.PAGE, topk.PAGE)
