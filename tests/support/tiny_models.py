"""Make small random encoders in the format of sentence-transformers; the same arguments make the same weights."""

import string
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from sbert.encoder.modules import Normalize
from sbert.encoder.pooling import Pooling, PoolingMode
from sbert.encoder.sentence_encoder import SentenceEncoder

WORDS = (
    "how do i reset my password forgot login account the cat sat on mat a train to hamburg is late photosynthesis turns "
    "light into energy red green blue she won match rain delay select name from users where id oven butter cake tin "
    "error connection refused port short long text number one two three four five six seven eight nine ten"
).split()
HIDDEN = 32
WIDE = 128
"""Values of an encoder that can compute in 8-bit integers, which come in groups of 128."""
ARCHITECTURES = ("bert", "roberta", "mpnet", "distilbert", "modernbert", "t5")


def tiny_tokenizer(kind: str = "bert") -> transformers.PreTrainedTokenizerFast:
    """Make a WordPiece tokenizer of letters and a few words, with the special tokens of an architecture."""
    bos, eos = ("<s>", "</s>") if kind in {"roberta", "mpnet"} else ("[CLS]", "[SEP]")
    pad, unk, mask = "[PAD]", "[UNK]", "[MASK]"
    specials = [bos, pad, eos, unk, mask]  # padding has id 1, as RoBERTa's position numbers expect
    letters = string.ascii_lowercase + string.digits + string.punctuation
    pieces = dict.fromkeys([*specials, *letters, *(f"##{letter}" for letter in letters), *WORDS])
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=unk))
    tokenizer.add_special_tokens(specials)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}", special_tokens=[(bos, specials.index(bos)), (eos, specials.index(eos))]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos, eos_token=eos, cls_token=bos, sep_token=eos, pad_token=pad, unk_token=unk, mask_token=mask,
        model_max_length=64,
    )  # fmt: skip


T5_FAMILY = {
    "t5": transformers.T5EncoderModel, "mt5": transformers.MT5EncoderModel, "umt5": transformers.UMT5EncoderModel,
    "longt5": transformers.LongT5EncoderModel, "switch_transformers": transformers.SwitchTransformersEncoderModel,
}  # fmt: skip


def t5_config(kind: str, vocab_size: int) -> transformers.PretrainedConfig:
    """Return the configuration of a small encoder-decoder of the T5 family."""
    make = {
        "t5": transformers.T5Config, "mt5": transformers.MT5Config, "umt5": transformers.UMT5Config,
        "longt5": transformers.LongT5Config, "switch_transformers": transformers.SwitchTransformersConfig,
    }[kind]  # fmt: skip
    return make(
        vocab_size=vocab_size, d_model=HIDDEN, d_kv=8, d_ff=64, num_layers=2, num_heads=4, pad_token_id=1,
        decoder_start_token_id=1, initializer_factor=3.0,
    )  # fmt: skip


def tiny_transformer(
    kind: str, vocab_size: int, seed: int = 0, *, num_heads: int = 4, hidden: int = HIDDEN
) -> transformers.PreTrainedModel:
    """Make a random transformer with two layers of one architecture. The compiled kernels take BERT with one head."""
    torch.manual_seed(seed)
    common = {"vocab_size": vocab_size, "pad_token_id": 1}
    spread = 0.3 * (HIDDEN / hidden) ** 0.5  # values of layers are of one size, however wide these are
    usual = {
        "hidden_size": hidden, "num_hidden_layers": 2, "num_attention_heads": num_heads, "intermediate_size": 2 * hidden,
        "max_position_embeddings": 80, "initializer_range": spread,
    }  # fmt: skip
    if kind == "bert":
        return transformers.BertModel(transformers.BertConfig(**common, **usual))
    if kind == "roberta":
        return transformers.RobertaModel(transformers.RobertaConfig(**common, **usual))
    if kind == "mpnet":
        return transformers.MPNetModel(transformers.MPNetConfig(**common, **usual))
    if kind == "distilbert":
        return transformers.DistilBertModel(
            transformers.DistilBertConfig(
                **common, dim=hidden, n_layers=2, n_heads=num_heads, hidden_dim=2 * hidden, max_position_embeddings=80,
                initializer_range=spread,
            )
        )  # fmt: skip
    if kind in T5_FAMILY:
        return T5_FAMILY[kind](t5_config(kind, vocab_size))
    return transformers.ModernBertModel(
        transformers.ModernBertConfig(
            **common, **usual, local_attention=16, global_attn_every_n_layers=2, bos_token_id=0, eos_token_id=2,
            cls_token_id=0, sep_token_id=2, reference_compile=False,
        )
    )  # fmt: skip


def tiny_encoder(
    kind: str = "bert", seed: int = 0, modes: tuple[PoolingMode, ...] = (PoolingMode.MEAN,), *, hidden: int = HIDDEN
) -> SentenceEncoder:
    """Make a small random encoder. The compiled kernels take a BERT of `WIDE`."""
    tokenizer = tiny_tokenizer(kind)
    transformer = tiny_transformer(kind, len(tokenizer), seed, hidden=hidden)
    return SentenceEncoder(
        transformer, tokenizer, Pooling(hidden, modes), [Normalize()], max_seq_length=64, device="cpu"
    )


def prompted_encoder(kind: str = "bert", seed: int = 0, *, include_prompt: bool = True) -> SentenceEncoder:
    """Return a small random encoder with a prompt for queries and another for documents, of the same number of tokens."""
    tokenizer = tiny_tokenizer(kind)
    return SentenceEncoder(
        tiny_transformer(kind, len(tokenizer), seed),
        tokenizer,
        Pooling(HIDDEN, (PoolingMode.MEAN,), include_prompt=include_prompt),
        [Normalize()],
        max_seq_length=64,
        prompts={"query": "select name from ", "document": "green blue red "},
        device="cpu",
    )


def save_tiny(folder: Path, kind: str = "bert", seed: int = 0, *, hidden: int = HIDDEN) -> str:
    """Write the folder of a small random encoder and return its path."""
    tiny_encoder(kind, seed, hidden=hidden).save_pretrained(folder)
    return str(folder)
