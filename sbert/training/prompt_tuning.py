"""Prompt tuning that can be saved: learned vectors before every text, as words of the vocabulary.

A virtual token is a row of the word table that only the tokenizer's template names. peft trains only these rows. After
merging the folder is an ordinary one, and its tokenizer puts the learned tokens before every text.
Source: Lester et al. 2021, The Power of Scale for Parameter-Efficient Prompt Tuning, section 2; rows begin as those of words
drawn from the vocabulary (section 3.2).
"""

from typing import Any

import numpy as np
import tokenizers
import torch
from tokenizers.processors import TemplateProcessing

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import TrainingError

__all__ = ["add_virtual_tokens", "virtual_token_ids"]

NAME = "[virtual-{}]"


def virtual_token_ids(tokenizer: Any) -> list[int]:
    """Return the ids of the virtual tokens of a tokenizer, in the order in which they precede a text."""
    vocabulary = tokenizer.get_vocab()
    ids: list[int] = []
    while (name := NAME.format(len(ids))) in vocabulary:
        ids.append(int(vocabulary[name]))
    return ids


def add_virtual_tokens(encoder: SentenceEncoder, count: int, seed: int) -> SentenceEncoder:
    """Return an encoder that puts `count` new tokens before every text. It shares the weights, and the word table grows.

    Raises:
        TrainingError: when the encoder has virtual tokens already, or no room for more.
    """
    import transformers

    old = encoder.hf_tokenizer
    if virtual_token_ids(old):
        raise TrainingError(
            "the encoder has been prompt-tuned before: use adapter lora, or begin with an untuned encoder"
        )
    backend = tokenizers.Tokenizer.from_str(old.backend_tokenizer.to_str())
    probe = backend.encode("a")
    specials = [token for token, special in zip(probe.tokens, probe.special_tokens_mask, strict=True) if special]
    head = next(place for place, special in enumerate(probe.special_tokens_mask) if not special)
    if len(specials) + count + 1 > encoder.max_seq_length:
        raise TrainingError(
            f"num_virtual_tokens is {count}, but the encoder takes {encoder.max_seq_length} tokens: choose fewer"
        )
    names = [NAME.format(number) for number in range(count)]
    backend.add_special_tokens(names)
    template = [*specials[:head], *names, "$A", *specials[head:]]
    backend.post_processor = TemplateProcessing(
        single=" ".join(template),
        special_tokens=[(name, backend.token_to_id(name)) for name in dict.fromkeys([*specials, *names])],
    )
    # The model's own tokenizer class would restore its own template when it is loaded.
    make: Any = transformers.PreTrainedTokenizerFast
    tokenizer = make(tokenizer_object=backend, model_max_length=old.model_max_length, **old.special_tokens_map)
    transformer: Any = encoder.transformer
    num_words = transformer.get_input_embeddings().num_embeddings
    transformer.resize_token_embeddings(max(num_words, backend.get_vocab_size()), mean_resizing=False)
    drawn = np.random.default_rng(seed).choice(min(num_words, len(old)), count, replace=False)
    table = transformer.get_input_embeddings().weight
    with torch.no_grad():
        table[virtual_token_ids(tokenizer)] = table[torch.from_numpy(drawn)]
    return SentenceEncoder(
        transformer,
        tokenizer,
        encoder.pooling,
        list(encoder.layers),
        max_seq_length=encoder.max_seq_length,
        model_id=encoder.model_id,
        prompts=encoder.prompts,
        default_prompt_name=encoder.default_prompt_name,
        similarity=encoder.similarity,
        do_lower_case=encoder.do_lower_case,
        device=encoder.device,
    )
