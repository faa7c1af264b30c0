"""FLOPs of sampling, scoring and training, by a policy's size and the lengths of its sequences.

Counted as torch.utils.flop_counter counts the work that is done: 2 per parameter that multiplies a
token, 4 x layers x heads x head size for each pair of tokens that attention looks at. Queries count
by macros of the same names (queries/macros); a test holds both to torch's counter.

- The output projection counts at response tokens alone: nobody looks at its output over a prompt.
- Looked-up embeddings multiply nothing. Of a mixture of experts, those that a token is routed to
  count.
- A forward pass over L tokens has L^2 pairs, masked ones included; kernels that skip them do half.
  Sampling with a key-value cache reads the prompt so, then for each token what stands before it.
- A backward pass costs two forward passes, that of attention two and a half: its scores are
  computed again. With gradient checkpointing, the layers run forward twice.

Sizes that are unknown count 0. Left out: norms, the optimizer's step, prompts whose cache several
rollouts share; LoRA, whose frozen weights need no gradient, counts as full training.
"""

from __future__ import annotations

from dataclasses import dataclass

from s2d_store.policies.registry import Registered


@dataclass(frozen=True)
class Lengths:
    """Sequences, summed: prompt tokens, response tokens, and the squares of their whole lengths."""

    prompt: int
    response: int
    squared: float

    @classmethod
    def of(cls, prompt: int, response: int) -> Lengths:
        """One sequence's."""
        return cls(prompt, response, float(prompt + response) ** 2)


def forward_flops(policy: Registered, lengths: Lengths) -> float:
    """One forward pass over whole sequences."""
    return _layers(policy, lengths) + _attention(policy, lengths) + _head(policy, lengths)


def sampling_flops(policy: Registered, prompt: int, response: int) -> float:
    """Sampling one response token by token: half of all pairs but the prompt's own."""
    whole = Lengths.of(prompt, response)
    pairs = (whole.squared + float(prompt) ** 2) / 2
    return forward_flops(policy, Lengths(prompt, response, pairs))


def training_flops(policy: Registered, lengths: Lengths, *, checkpointing: bool) -> float:
    """Forward and backward over whole sequences."""
    layers, attention = _layers(policy, lengths), _attention(policy, lengths)
    again = layers + attention if checkpointing else 0.0
    return 3 * (layers + _head(policy, lengths)) + 3.5 * attention + again


def _layers(policy: Registered, lengths: Lengths) -> float:
    used = policy.active_parameters or policy.n_parameters or 0
    multiplied = used - (policy.lookup_parameters or 0) - (policy.head_parameters or 0)
    return 2.0 * multiplied * (lengths.prompt + lengths.response)


def _attention(policy: Registered, lengths: Lengths) -> float:
    return 4.0 * (policy.attention_width or 0) * lengths.squared


def _head(policy: Registered, lengths: Lengths) -> float:
    return 2.0 * (policy.head_parameters or 0) * lengths.response
