"""Words that a tokenizer has no characters of: each becomes one unknown token, however long it is."""

import json
from collections.abc import Sequence

from tokenizers import Tokenizer

__all__ = ["hidden_characters", "unknown_token"]


def unknown_token(tokenizer: Tokenizer) -> str | None:
    """Return the token that stands for unknown words; None for a tokenizer that can spell every text."""
    model = json.loads(tokenizer.to_str())["model"]
    if model.get("unk_id") is not None:  # Unigram
        return str(model["vocab"][model["unk_id"]][0])
    token = model.get("unk_token")
    return None if token is None else str(token)


def hidden_characters(tokenizer: Tokenizer, texts: Sequence[str]) -> list[int]:
    """Return for each text how many more tokens it had if every character of an unknown token were one.

    Args:
        tokenizer: neither truncates nor pads.
        texts: what is counted.
    """
    unknown = unknown_token(tokenizer)
    number = None if unknown is None else tokenizer.token_to_id(unknown)
    return [
        sum(
            end - begin - 1
            for token, (begin, end) in zip(encoding.ids, encoding.offsets, strict=True)
            if token == number
        )
        for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)
    ]
