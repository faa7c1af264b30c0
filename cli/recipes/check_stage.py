"""What a stage may not be: keys, references and settings that do not fit its kind."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import fields

from cli.recipes.schema import EVAL, EVAL_KEYS, Recipe, Stage, optional_keys, required_keys
from cli.recipes.stage_kind import is_scored, kind_of, query_of
from cli.recipes.tasks import ordered
from cli.recipes.trainer_settings import check_setting, of_recipe, trainer_config
from queries import kinds
from queries.kinds import Kind
from s2d_store.engines import registry as engines
from s2d_store.errors import InputError, did_you_mean
from s2d_store.mistakes import Mistakes

# Parameters of its query that a stage fills in by itself.
_FILLED = (
    "teacher",
    "reference",
    "student",
    "policy",
    "treatment",
    "bridge",
    "runs",
    "round",
    "support",
    "verifier",
)


def check_stages(recipe: Recipe, mistakes: Mistakes, broken: Collection[str]) -> None:
    """Look for every mistake in the stages of a recipe.

    Args:
        recipe: the recipe.
        mistakes: takes what is found.
        broken: stages whose tables have a mistake already; other stages may still name them.
    """
    for name, stage in recipe.stage.items():
        if name not in broken:
            _Check(recipe, name, stage, mistakes, frozenset(broken)).all()
    if not recipe.seeds:
        mistakes.add(
            InputError(f"{recipe.at('seeds')}: the recipe's seeds are an empty list", "", "[0]")
        )
    with mistakes.collect():
        ordered(recipe)


class _Check:
    """The checks of one stage; each of them finds its mistakes whatever the others found."""

    def __init__(
        self,
        recipe: Recipe,
        name: str,
        stage: Stage,
        mistakes: Mistakes,
        broken: frozenset[str],
    ) -> None:
        self.recipe, self.name, self.stage = recipe, name, stage
        self.mistakes, self.broken = mistakes, broken
        self.is_refused = False

    def title(self, key: str = "") -> str:
        """Where a key of the stage stands, and the stage."""
        return self.recipe.title(self.name, key)

    def refuse(self, key: str, what: str, why: str = "", fix: str = "") -> None:
        """Take a mistake at a key of the stage."""
        self.is_refused = True
        self.mistakes.add(InputError(f"{self.title(key)}{what}", why, fix))

    def all(self) -> None:
        """Find all mistakes."""
        self._keys()
        self._references()
        if self.stage.kind == EVAL or self.is_refused:
            return
        self._scoring()
        self._dataset()
        with self.mistakes.collect():
            self._sampling()
        with self.mistakes.collect():
            self._settings()

    def _settings(self) -> None:
        """Refuse settings that the trainer lacks, and values that its config refuses."""
        wrong = Mistakes()
        for key, value in self.stage.train.items():
            with wrong.collect():
                check_setting(self.title(f"train.{key}"), self.stage, key, value)
        # Of a key under [defaults], the first stage that lacks it says so for all.
        told = {str(error).partition(" is no setting of ")[0] for error in self.mistakes.found}
        for error in wrong.found:
            if str(error).partition(" is no setting of ")[0] not in told:
                self.mistakes.add(error)
        if wrong.found:
            return
        try:
            trainer_config("", self.stage, "dataset", "student", "output")
        except InputError as error:
            # The config names the setting first.
            key = error.what.removeprefix(": train: ").partition(" ")[0]
            title = self.title(f"train.{key}" if key in self.stage.train else "train")
            raise InputError(f"{title}{error.what}", error.why, error.fix) from error

    def _keys(self) -> None:
        stage, kind = self.stage, self.stage.kind
        blank = Stage(kind=kind)
        required: tuple[str, ...] = EVAL_KEYS[0]
        optional: tuple[str, ...] = EVAL_KEYS[1]
        if kind != EVAL:
            required, optional = required_keys(kind_of(stage)), optional_keys(kind_of(stage))
        for field in fields(Stage):
            given = getattr(stage, field.name) != getattr(blank, field.name)
            if given and field.name not in ("kind", *required, *optional):
                self.refuse(
                    field.name,
                    f" has {field.name}, which a stage of kind {kind} does not take",
                    f"it takes {', '.join((*required, *optional))}",
                    "docs/recipes.md explains every key",
                )
        for key in required:
            if not getattr(stage, key):
                self.refuse("", f" lacks {key}", f"a stage of kind {kind} needs it", f"{key} = ...")
        if self.name in self.recipe.brought:
            self.refuse("", " has the name of a policy", fix="give one of them another name")
        for key, least in (("rounds", 1), ("prompts_per_round", 0)):
            if getattr(stage, key) < least:
                self.refuse(key, f": {key} is {getattr(stage, key)}", f"at least {least}")

    def _references(self) -> None:
        stage, recipe = self.stage, self.recipe
        known = (*recipe.stage, *recipe.brought)
        named = ("start", "teacher", "reference", "rollouts_of", "treatment", "bridge", "policies")
        for key in named:
            given = getattr(stage, key)
            for ref in (given,) if isinstance(given, str) else given:
                if ref and ref not in known:
                    self.refuse(
                        key,
                        f" names {ref!r}, which is neither a stage nor a policy"
                        + did_you_mean(ref, known),
                        f"stages: {', '.join(recipe.stage)}; policies: {', '.join(recipe.brought)}",
                        f"name one of them, or add {ref} = FOLDER to [policies]",
                    )
                elif ref in recipe.stage and recipe.stage[ref].kind == EVAL:
                    self.refuse(key, f" names {ref!r}, an eval stage, which makes no policy")
        if stage.reference and not stage.train.get("kl_coefficient"):
            self.refuse(
                "reference",
                f" has the reference {stage.reference!r} and no KL term",
                "a reference policy is what the loss's KL term is to",
                "train.kl_coefficient = 5e-4, or leave reference out",
            )
        self._require_kind("treatment", (stage.treatment,), _learns_from_labels)
        self._require_kind("rollouts_of", (stage.rollouts_of,), _is_sampled_by_teacher)
        self._require_kind("bridge", stage.bridge, _is_bridge)
        if stage.baseline and stage.baseline not in stage.policies:
            self.refuse(
                "baseline",
                f": baseline {stage.baseline!r} is not one of its policies",
                f"they are {', '.join(stage.policies)}",
            )

    def _require_kind(
        self, key: str, refs: tuple[str, ...], of_kind: Callable[[Kind], bool]
    ) -> None:
        """Refuse references to what is known and no stage of the kind that is wanted."""
        recipe = self.recipe
        found = [n for n, s in recipe.stage.items() if n not in self.broken and _is(s, of_kind)]
        for ref in refs:
            known = ref in recipe.brought or (ref in recipe.stage and ref not in self.broken)
            if known and ref not in found:
                wanted = " or ".join(
                    name for name, kind in kinds.shipped().items() if of_kind(kind)
                )
                self.refuse(
                    key,
                    f": {key} {ref!r} is no {wanted} stage",
                    f"the recipe has {', '.join(found) or 'none'}",
                )

    def _scoring(self) -> None:
        """Refuse what the engines cannot do, and a teacher without ids to score."""
        stage, engine = self.stage, self.recipe.engine
        sampler, scorer = engine.name, stage.score.engine or engine.name
        given_ids = is_scored(stage) and stage.score.support != "own"
        with self.mistakes.collect(), of_recipe(self.title("generate.top_logprobs"), "generate"):
            engines.require_capable(sampler, k=stage.generate.top_logprobs)
        with self.mistakes.collect(), of_recipe(self.title("score.engine"), "score"):
            engines.require_capable(scorer, k=stage.score.top_logprobs, given_ids=given_ids)
        traits = kind_of(stage)
        if traits.labels == "derived" and traits.policy == "on" and stage.generate.n < 2:
            self.refuse(
                "generate.n",
                f": generate.n is {stage.generate.n}",
                "advantages compare the rollouts of a prompt with each other",
                "generate.n = 8",
            )
        if is_scored(stage) and stage.score.support == "union" and stage.score.top_logprobs < 1:
            self.refuse(
                "score.top_logprobs",
                ": score.top_logprobs is 0",
                "a union needs the teacher's own top k beside the student's",
                "score.top_logprobs = 20",
            )
        if given_ids and stage.generate.top_logprobs < 1:
            self.refuse(
                "generate",
                " keeps no top-k of the student",
                "its teacher scores the ids that the student ranked highest",
                "generate.top_logprobs = 20, or score.support = 'own' with score.top_logprobs",
            )

    def _dataset(self) -> None:
        stage = self.stage
        known = [param.name for param in query_of(stage).params if param.name not in _FILLED]
        for key in stage.dataset:
            if key not in known:
                own = "the stage fills it in"
                if key not in _FILLED:
                    own = f"its query has no such parameter{did_you_mean(key, known)}"
                self.refuse(
                    f"dataset.{key}",
                    f": dataset.{key} cannot be given: {own}",
                    f"allowed: {', '.join(known)}",
                )

    def _sampling(self) -> None:
        """Refuse what building the stage's datasets would: s2d_store.datasets.sampling_check."""
        from s2d_store.datasets import sampling_check

        stage, recipe = self.stage, self.recipe
        if stage.kind not in sampling_check.KINDS or stage.dataset.get(sampling_check.PARAM):
            return
        sampled = {ref: recipe.stage[ref] for ref in stage.bridge} or {"": stage}
        for ref, source in sampled.items():
            how = source.generate
            if (how.temperature, how.top_p) != (1, 1) or how.top_k > 0:
                self.refuse(
                    "bridge" if ref else "generate",
                    f" trains on rollouts drawn at temperature {how.temperature:g}, top_p "
                    f"{how.top_p:g}, top_k {how.top_k}"
                    + (f", those of stage {ref}" if ref else ""),
                    "stored logprobs are at temperature 1 without top-p and top-k, so ratios and "
                    "losses on sampled tokens would be biased",
                    f"sample at temperature 1, or dataset.{sampling_check.PARAM} = true takes them",
                )


def _learns_from_labels(kind: Kind) -> bool:
    return kind.labels == "derived" and kind.policy == "on" and not kind.control


def _is_sampled_by_teacher(kind: Kind) -> bool:
    return kind.rollouts == "teacher" and not kind.control


def _is_bridge(kind: Kind) -> bool:
    return kind.has_topk and not kind.control


def _is(stage: Stage, of_kind: Callable[[Kind], bool]) -> bool:
    return stage.kind != EVAL and of_kind(kind_of(stage))
