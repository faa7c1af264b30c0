r"""The miniature's task: evaluate `7+5*3-1*4=` from left to right, keeping only the last digit.

Every running result is taken modulo 10, so `7+5=2`, `2*3=6`, `6-1=5`, `5*4=0`, and the answer is 0.
There are 8.1 million expressions of five digits and four operators. A response is either a chain,
the expression with its running results in place of its digits, `7+2*6-5*0\boxed{0}`, or a bare
answer, `\boxed{9}`.

Dimensions: B expressions, S operators of an expression (4), P prompt tokens (11), L prompt and
response tokens (24).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Ints = NDArray[np.int64]

OPERATORS = "+-*"
N_OPERATORS = 4
N_EXPRESSIONS = 10 ** (N_OPERATORS + 1) * len(OPERATORS) ** N_OPERATORS

SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>")
VOCABULARY = (*SPECIAL_TOKENS, *"0123456789", *OPERATORS, "=", r"\boxed{", "}")
PAD, BOS, EOS, UNK = range(len(SPECIAL_TOKENS))
DIGIT, OPERATOR = VOCABULARY.index("0"), VOCABULARY.index(OPERATORS[0])
EQUALS, BOXED, CLOSE = (VOCABULARY.index(token) for token in ("=", r"\boxed{", "}"))

# A question carries its own "=", so a prompt is <bos> and the question, nothing else.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)


@dataclass(frozen=True)
class Expressions:
    """B expressions as numbers.

    Attributes:
        digits: int64 (B, S + 1), each 0 to 9.
        operators: int64 (B, S), positions in `OPERATORS`.
    """

    digits: Ints
    operators: Ints

    @classmethod
    def numbered(cls, numbers: Ints) -> Expressions:
        """The expressions with these numbers (B,), each from 0 to `N_EXPRESSIONS` - 1."""
        shape = (10,) * (N_OPERATORS + 1) + (len(OPERATORS),) * N_OPERATORS
        columns = np.stack(np.unravel_index(numbers, shape), axis=1)
        return cls(columns[:, : N_OPERATORS + 1], columns[:, N_OPERATORS + 1 :])

    def questions(self) -> list[str]:
        """The B expressions as text, such as `7+5*3-1*4=`."""
        return [
            str(digits[0])
            + "".join(OPERATORS[o] + str(d) for o, d in zip(operators, digits[1:], strict=True))
            + "="
            for digits, operators in zip(self.digits, self.operators, strict=True)
        ]


def true_facts() -> Ints:
    """int64 (3, 10, 10): the last digit of `a operator b` at [operator, a, b]."""
    a, b = np.arange(10)[:, None], np.arange(10)[None, :]
    return np.stack([a + b, a - b, a * b]) % 10


def mistaken_facts(share: float, rng: np.random.Generator) -> Ints:
    """`true_facts` of which about `share` are replaced by another digit: misconceptions."""
    facts = true_facts()
    off = rng.integers(1, 10, facts.shape)
    return np.where(rng.random(facts.shape) < share, (facts + off) % 10, facts)


@dataclass(frozen=True)
class Habits:
    """How a teacher of weak models works an expression out.

    Attributes:
        facts: int64 (3, 10, 10), `mistaken_facts`.
        mistake_rate: how often it uses these, and not the true ones.
        slips: probability that a result is a random digit, which is then carried on.
    """

    facts: Ints
    mistake_rate: float
    slips: float


def running_results(
    expressions: Expressions, habits: Habits | None = None, rng: np.random.Generator | None = None
) -> Ints:
    """Evaluate step by step; returns int64 (B, S), the last column being the answer.

    Args:
        expressions: what to evaluate.
        habits: how to be wrong; None never is.
        rng: draws the mistakes and slips.
    """
    true = true_facts()
    results = np.empty_like(expressions.operators)
    current = expressions.digits[:, 0]
    for step in range(N_OPERATORS):
        place = expressions.operators[:, step], current, expressions.digits[:, step + 1]
        current = true[place]
        if habits is not None and rng is not None:
            mistaken = rng.random(len(current)) < habits.mistake_rate
            current = np.where(mistaken, habits.facts[place], current)
            slipped = rng.random(len(current)) < habits.slips
            current = np.where(slipped, rng.integers(0, 10, len(current)), current)
        results[:, step] = current
    return results


def gold_answers(expressions: Expressions) -> list[str]:
    """The right answers, by the true table."""
    return [str(answer) for answer in running_results(expressions)[:, -1]]


def encode_prompts(expressions: Expressions) -> Ints:
    """Token ids int64 (B, P) of `<bos>` and the question: what the chat template renders."""
    n_rows = len(expressions.digits)
    ids = np.empty((n_rows, 2 * N_OPERATORS + 3), dtype=np.int64)
    ids[:, 0], ids[:, -1] = BOS, EQUALS
    ids[:, 1:-1:2] = DIGIT + expressions.digits
    ids[:, 2:-1:2] = OPERATOR + expressions.operators
    return ids


def encode_chains(expressions: Expressions, results: Ints) -> Ints:
    r"""Token ids int64 (B, 13) of `7+2*6-5*0\boxed{0}<eos>`, given the running results."""
    ids = np.empty((len(results), 2 * N_OPERATORS + 5), dtype=np.int64)
    ids[:, 0] = DIGIT + expressions.digits[:, 0]
    ids[:, 1:-4:2] = OPERATOR + expressions.operators
    ids[:, 2:-4:2] = DIGIT + results
    ids[:, -4:] = _boxed(results[:, -1])
    return ids


def encode_guesses(answers: Ints) -> Ints:
    r"""Token ids int64 (B, 13) of `\boxed{9}<eos>`, padded to the length of a chain."""
    ids = np.full((len(answers), 2 * N_OPERATORS + 5), PAD, dtype=np.int64)
    ids[:, :4] = _boxed(answers)
    return ids


def build_tokenizer() -> PreTrainedTokenizerFast:
    r"""A tokenizer of one token a character, except `\boxed{`; it adds no special tokens itself."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {token: index for index, token in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=VOCABULARY[UNK]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\\boxed\{|[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=VOCABULARY[PAD],
        bos_token=VOCABULARY[BOS],
        eos_token=VOCABULARY[EOS],
        unk_token=VOCABULARY[UNK],
        chat_template=CHAT_TEMPLATE,
    )


def _boxed(answers: Ints) -> Ints:
    n_rows = len(answers)
    columns = [
        np.full(n_rows, BOXED),
        DIGIT + answers,
        np.full(n_rows, CLOSE),
        np.full(n_rows, EOS),
    ]
    return np.stack(columns, axis=1)
