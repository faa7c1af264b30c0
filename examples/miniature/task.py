r"""What the miniature's tasks have in common: questions by number, chains of facts, a boxed answer.

A question is worked out by looking up one small fact after another. A response is either a chain,
which shows every fact, or a guess, the boxed answer alone. Both end in `\boxed{...}`.

Dimensions: B questions, S steps of a chain.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Ints = NDArray[np.int64]

BOXED = r"\boxed{"
SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>")
PAD, BOS, EOS, UNK = range(len(SPECIAL_TOKENS))
_TOKEN = re.compile(r"<[a-z]+>|\\boxed\{|[\s\S]")

# A question carries its own "=", so a prompt is <bos> and the question, nothing else.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)


@dataclass(frozen=True)
class Habits:
    """How a teacher of weak models works a question out.

    Attributes:
        facts: as `Task.true_facts`, some of them wrong.
        mistake_rate: how often it uses these, and not the true ones.
        slips: probability that a result is drawn at random, which is then carried on.
    """

    facts: Ints
    mistake_rate: float
    slips: float


class Task(ABC):
    """One task.

    Attributes:
        name: its name on the command line, and its recipe's.
        symbols: characters of questions and chains that are no digits.
        n_questions: how many questions there are; they are numbered from 0.
        n_results: a fact's result is one of 0 .. n_results - 1.
        n_answers: an answer is one of 0 .. n_answers - 1.
        answer_digits: an answer is written with so many digits.
        response_tokens: of a chain, `<eos>` included.
    """

    name: str
    symbols: str
    n_questions: int
    n_results: int
    n_answers: int
    answer_digits: int
    response_tokens: int

    @abstractmethod
    def questions(self, numbers: Ints) -> list[str]:
        """The questions with these numbers (B,), all of one length."""

    @abstractmethod
    def true_facts(self) -> Ints:
        """A table of results, by what is looked up."""

    @abstractmethod
    def work_out(
        self, numbers: Ints, habits: Habits | None = None, rng: np.random.Generator | None = None
    ) -> Ints:
        """The results (B, S) of each step.

        Args:
            numbers: int64 (B,), the questions.
            habits: how to be wrong; None never is.
            rng: draws the mistakes and slips.
        """

    @abstractmethod
    def answers(self, results: Ints) -> Ints:
        """The answers (B,) that the results (B, S) lead to."""

    @abstractmethod
    def chains(self, numbers: Ints, results: Ints) -> list[str]:
        """B responses that show the results and box the answer."""

    def boxed(self, answer: int) -> str:
        r"""An answer as responses give it: `\boxed{9}`."""
        return f"{BOXED}{answer:0{self.answer_digits}d}}}"

    def mistaken_facts(self, share: float, rng: np.random.Generator) -> Ints:
        """`true_facts` of which about `share` have another result: misconceptions."""
        facts = self.true_facts()
        off = rng.integers(1, self.n_results, facts.shape)
        return np.where(rng.random(facts.shape) < share, (facts + off) % self.n_results, facts)

    def look_up(
        self, place: tuple[Ints, ...], habits: Habits | None, rng: np.random.Generator | None
    ) -> Ints:
        """The results (B,) of one step: `true_facts` at a place, or what habits make of them."""
        results = self.true_facts()[place]
        if habits is None or rng is None:
            return results
        size = len(results)
        results = np.where(rng.random(size) < habits.mistake_rate, habits.facts[place], results)
        slipped = rng.random(size) < habits.slips
        return np.where(slipped, rng.integers(0, self.n_results, size), results)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The tokens by id."""
        return (*SPECIAL_TOKENS, *"0123456789", *self.symbols, BOXED, "}")

    def encode(self, texts: Sequence[str], length: int) -> Ints:
        """Token ids int64 (B, length) of texts, padded behind."""
        ids = {token: index for index, token in enumerate(self.vocabulary)}
        rows = np.full((len(texts), length), PAD, dtype=np.int64)
        for row, text in zip(rows, texts, strict=True):
            found = [ids[token] for token in _TOKEN.findall(text)]
            row[: len(found)] = found
        return rows

    def tokenizer(self) -> PreTrainedTokenizerFast:
        r"""A tokenizer of one token per character, except `\boxed{`; it adds no special tokens."""
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        ids = {token: index for index, token in enumerate(self.vocabulary)}
        tokenizer = Tokenizer(models.WordLevel(ids, unk_token=SPECIAL_TOKENS[UNK]))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\\boxed\{|[\s\S]"), "isolated")
        tokenizer.decoder = decoders.Fuse()
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            pad_token=SPECIAL_TOKENS[PAD],
            bos_token=SPECIAL_TOKENS[BOS],
            eos_token=SPECIAL_TOKENS[EOS],
            unk_token=SPECIAL_TOKENS[UNK],
            chat_template=CHAT_TEMPLATE,
        )
