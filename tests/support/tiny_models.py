"""Tiny random models for tests: a Qwen3 with a character tokenizer, saved in milliseconds."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Literal

Vocab = Literal["default", "swapped", "extended"]

SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>")
PAD_ID, BOS_ID, EOS_ID, UNK_ID = range(4)
CHARACTERS = "\n " + string.digits + string.ascii_letters + string.punctuation
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def tiny_vocabulary(vocab: Vocab = "default") -> list[str]:
    """Token i at index i: special tokens, then one token a character.

    `swapped` exchanges 7 and 8; `extended` has three more characters at the end.
    """
    characters = CHARACTERS
    if vocab == "swapped":
        characters = characters.translate(str.maketrans("78", "87"))
    elif vocab == "extended":
        characters += "éπ≤"
    return [*SPECIAL_TOKENS, *characters]


def save_tiny_tokenizer(
    folder: Path, *, vocab: Vocab = "default", chat_template: bool = True
) -> None:
    """Write a character tokenizer that adds no special tokens by itself."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {token: index for index, token in enumerate(tiny_vocabulary(vocab))}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
    )
    if chat_template:
        fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)


def save_tiny_model(
    folder: Path | str,
    *,
    seed: int = 0,
    vocab: Vocab = "default",
    layers: int = 1,
    head_dim: int = 16,
    chat_template: bool = True,
    tied: bool = True,
    padding: int = 0,
) -> Path:
    """Write a random Qwen3 (hidden 32, 2 heads, float32) and its tokenizer.

    `padding` outputs above the tokenizer's ids are as likely as others. Weights depend on `seed`,
    `layers` and the vocabulary's size. They are large enough for distributions far from uniform:
    an end-of-sequence token comes about once in 50 to 100 tokens.

    Returns:
        The folder.
    """
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    folder = Path(folder)
    config = Qwen3Config(
        vocab_size=len(tiny_vocabulary(vocab)) + padding,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=head_dim,
        max_position_embeddings=2048,
        tie_word_embeddings=tied,
        initializer_range=0.3,
        pad_token_id=PAD_ID,
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
    model.save_pretrained(folder)
    save_tiny_tokenizer(folder, vocab=vocab, chat_template=chat_template)
    return folder
