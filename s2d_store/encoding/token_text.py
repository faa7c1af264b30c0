"""What a vocabulary's tokens say, decoded from how tokenizers spell them."""

from __future__ import annotations

import re
from functools import cache, lru_cache

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


@lru_cache(1 << 17)
def decoded(token: str, byte_level: bool) -> str:
    """A token's text.

    Args:
        token: as the tokenizer spells it.
        byte_level: whether its characters stand for bytes, as GPT-2's do (`Ġ` is a space); else
            `▁` is a space and `<0x0A>` a byte, as SentencePiece spells them.

    Returns:
        the text; `�` where the token holds a part of a character's bytes. A special token, which is
        spelled as it is, comes back unchanged.
    """
    if byte_level:
        bytes_of = _bytes_of_characters()
        spelled = [bytes_of.get(character) for character in token]
        if None in spelled:
            return token
        return bytes(byte for byte in spelled if byte is not None).decode("utf-8", "replace")
    if match := _BYTE.fullmatch(token):
        return bytes([int(match[1], 16)]).decode("utf-8", "replace")
    return token.replace("▁", " ")


@cache
def _bytes_of_characters() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for.

    Printable characters of Latin-1 are their own bytes; the other bytes, in order, are the
    characters from U+0100 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + i): byte for i, byte in enumerate(others)
    }
