"""Sentence-BERT: texts in, vectors out.

The one idea: an encoder is a transformer, a pooling and a few layers; around it, texts are tokenized a block at a time,
arranged by length, cut into batches by a token budget, computed by the fastest path that is proven right
(`sbert.encoder.engine`), and put back in order.

    from sbert import SentenceEncoder
    encoder = SentenceEncoder.from_pretrained()
    vectors = encoder.encode(["How do I reset my password?", "Forgot my login"])   # float32, shape (2, 384)
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, cast

import numpy as np
import numpy.typing as npt
import tokenizers
import torch
from torch import Tensor, nn

from sbert.encoder.engine.budget import TokenBudget
from sbert.encoder.engine.dtype import BATCH_TOLERANCE, ComputeDtype, fastest_dtype
from sbert.encoder.engine.packed import PackedRunner
from sbert.encoder.engine.padded import PaddedRunner
from sbert.encoder.engine.runner_choice import MIN_PROBE_COSINE, PROBE, ChosenRunner, choose_runner, run_all
from sbert.encoder.engine.weights import read_weights
from sbert.encoder.fingerprint import hash_encoder
from sbert.encoder.model_folder import DEFAULT_MODEL, locate_model, read_folder, write_modules
from sbert.encoder.modules import Dense, Normalize
from sbert.encoder.pooling import Pooling, PoolingMode
from sbert.encoder.side import Side
from sbert.encoder.tokenization.pool import TokenizerPool, num_tokenizer_processes
from sbert.encoder.tokenization.token_ids import (
    Texts,
    TokenizedTexts,
    as_list,
    count_prompt_tokens,
    special_token_counts,
    tokenize_block,
)
from sbert.encoder.tokenization.window_settings import WindowSettings
from sbert.encoder.tokenization.windows import join_windows
from sbert.encoder.transformer import load_transformer, position_limit
from sbert.errors import SettingsError
from sbert.runtime.hardware import default_device, limit_threads
from sbert.runtime.prefetch import prefetch

__all__ = ["BATCH_TOLERANCE", "DEFAULT_MODEL", "ComputeDtype", "SentenceEncoder"]

log = logging.getLogger(__name__)

PROBE_TOKEN_BUDGET = 1_024
TEXTS_PER_BLOCK = 16_384
"""Texts that are tokenized and packed together by `encode`."""
MAX_LENGTH_WITHOUT_LIMIT = 512
UNLIMITED = 1_000_000
"""Tokenizers write a huge number when they have no limit."""


class SentenceEncoder(nn.Module):
    """A Sentence-BERT encoder (Reimers and Gurevych 2019); threads may share one."""

    def __init__(
        self,
        transformer: nn.Module,
        tokenizer: Any,
        pooling: Pooling,
        layers: Sequence[nn.Module] = (),
        *,
        max_seq_length: int,
        model_id: str = "",
        prompts: dict[str, str] | None = None,
        default_prompt_name: str | None = None,
        do_lower_case: bool = False,
        compute_dtype: ComputeDtype = ComputeDtype.FLOAT32,
        device: str | torch.device | None = None,
    ) -> None:
        """Put an encoder together from its parts; `from_pretrained` is the usual way.

        Args:
            transformer: a Hugging Face encoder: takes input_ids and attention_mask, gives last_hidden_state.
            tokenizer: its fast tokenizer (``PreTrainedTokenizerFast``).
            pooling: token vectors to one vector.
            layers: Dense and Normalize modules, applied in order.
            max_seq_length: tokens after which a text is truncated, special tokens included.
            model_id: what readers are told the encoder is called.
            prompts: texts put before others, by name (``query``, ``document``).
            default_prompt_name: the prompt used when none is asked for.
            do_lower_case: lower-case texts before tokenizing.
            compute_dtype: type the transformer computes in.
            device: where it computes; by default CUDA, else MPS, else CPU.
        """
        super().__init__()
        self.model_id = model_id
        self.compute_dtype = ComputeDtype(compute_dtype)
        self.max_seq_length = max_seq_length
        self.prompts = dict(prompts or {})
        self.default_prompt_name = default_prompt_name
        self.do_lower_case = do_lower_case
        self.hf_tokenizer = tokenizer
        self._tokenizer = tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._pad_id = int(tokenizer.pad_token_id or 0)
        self.pooling = pooling
        self.layers = nn.ModuleList(layers)
        self.transformer = transformer
        shortest = sum(special_token_counts(self._tokenizer)) + 1
        if max_seq_length < shortest:
            raise SettingsError(f"max_seq_length is {max_seq_length}, the model needs at least {shortest} tokens")
        self._lock = threading.Lock()
        self._token_budget = TokenBudget()
        self.eval()
        self.fingerprint  # noqa: B018  (hash the weights as stored, before they change type)
        place = torch.device(device) if device is not None else default_device()
        self._tokenizer_pool = TokenizerPool(
            self._tokenizer, num_tokenizer_processes(place.type, torch.get_num_threads())
        )
        reduced = self.compute_dtype is not ComputeDtype.FLOAT32
        self._reference_SD = self._plain_probe() if reduced else None
        self.to(place)
        self.transformer.to(dtype=getattr(torch, self.compute_dtype.value))
        self._chosen: ChosenRunner | None = None
        self._chosen_for = self._weights_key()

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str] = DEFAULT_MODEL,
        *,
        device: str | torch.device | None = None,
        compute_dtype: ComputeDtype | None = None,
        max_seq_length: int | None = None,
        normalize: bool | None = None,
    ) -> Self:
        """Load a sentence-transformers folder, or a plain Hugging Face encoder (then pooled by mean).

        torch then computes with at most as many threads as the container may use processors, unless OMP_NUM_THREADS is set.

        Args:
            model: local folder, URI of a folder in object storage, hub id, or the packaged default.
            device: where it computes; by default CUDA, else MPS, else CPU.
            compute_dtype: type the transformer computes in; None for the fastest that this machine has units for and that
                gives the vectors of float32 (cosine of at least 0.999 on a probe). Train in float32.
            max_seq_length: tokens after which a text is truncated; by default the model's own limit.
            normalize: True or False to give vectors unit length or not; None for what the model says.

        Raises:
            ModelError: when the model cannot be found or loaded whole and safely.
            SettingsError: when `max_seq_length` is out of the model's range.
        """
        limit_threads()
        folder = read_folder(locate_model(model))
        transformer, tokenizer = load_transformer(folder.transformer)
        limit = position_limit(transformer.config)
        own = folder.max_seq_length or tokenizer.model_max_length
        if own > UNLIMITED:
            own = limit or MAX_LENGTH_WITHOUT_LIMIT
        chosen = max_seq_length or min(own, limit or own)
        if limit is not None and chosen > limit:
            raise SettingsError(f"max_seq_length is {chosen}, {os.fspath(model)} has positions for {limit} tokens")
        pooling = folder.pooling or Pooling(int(cast("Any", transformer.config).hidden_size), (PoolingMode.MEAN,))
        layers = list(folder.layers)
        if normalize is not None:
            layers = [layer for layer in layers if not isinstance(layer, Normalize)] if not normalize else layers
            if normalize and not any(isinstance(layer, Normalize) for layer in layers):
                layers.append(Normalize())
        place = torch.device(device) if device is not None else default_device()
        encoder = cls(
            transformer,
            tokenizer,
            pooling,
            layers,
            max_seq_length=chosen,
            model_id=os.fspath(model),
            prompts=folder.prompts,
            default_prompt_name=folder.default_prompt_name,
            do_lower_case=folder.do_lower_case,
            compute_dtype=compute_dtype or fastest_dtype(place),
            device=place,
        )
        if encoder.compute_dtype is ComputeDtype.FLOAT32 or encoder.chosen_runner.probe_cosine >= MIN_PROBE_COSINE:
            return encoder
        what = f"{os.fspath(model)} computes other vectors in {encoder.compute_dtype} than in float32 (least cosine "
        what += f"{encoder.chosen_runner.probe_cosine:.5f} on a probe, {MIN_PROBE_COSINE} is needed)"
        if compute_dtype is not None:
            log.warning("%s: used since it was asked for", what)
            return encoder
        log.warning("%s: float32 is used", what)
        return cls.from_pretrained(
            model, device=device, compute_dtype=ComputeDtype.FLOAT32, max_seq_length=max_seq_length, normalize=normalize
        )

    @property
    def device(self) -> torch.device:
        """Where the encoder computes."""
        return next(self.transformer.parameters()).device

    @property
    def dim(self) -> int:
        """Values in one vector."""
        sizes = [layer.out_features for layer in self.layers if isinstance(layer, Dense)]
        return sizes[-1] if sizes else self.pooling.dim

    @property
    def pooling_name(self) -> str:
        """How token vectors become one vector, for example ``mean`` or ``cls+max``."""
        return "+".join(mode.value for mode in self.pooling.modes)

    @property
    def normalizes(self) -> bool:
        """Whether vectors have unit length."""
        return len(self.layers) > 0 and isinstance(self.layers[-1], Normalize)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that decides a text's vector; 64 hex digits, the same wherever the model lies."""
        tensors = {name: tensor for name, tensor in self.state_dict().items() if ".pooler." not in name}
        facts = {
            "tokenizer": self._tokenizer.to_str(),
            "do_lower_case": self.do_lower_case,
            "pooling": [self.pooling_name, self.pooling.include_prompt],
            "layers": [[type(layer).__name__, getattr(layer, "activation_name", None)] for layer in self.layers],
            "max_seq_length": self.max_seq_length,
            "dim": self.dim,
            "precision": "float32",
            "compute_dtype": self.compute_dtype.value,
        }
        return hash_encoder(tensors, facts)

    def prompt_for(self, side: Side) -> str:
        """Return the prompt for one side, by the rule of sentence-transformers; an empty string if there is none.

        A query has the prompt ``query``. A document has the first of the prompts ``document``, ``passage`` and ``corpus``.
        """
        names = ("query",) if side is Side.QUERY else ("document", "passage", "corpus")
        return next((self.prompts[name] for name in names if name in self.prompts), "")

    def num_prompt_tokens(self, prompt: str) -> int:
        """Return the number of tokens that a prompt puts at the beginning of a text, the leading special token included."""
        return count_prompt_tokens(self._tokenizer, prompt.lower() if self.do_lower_case else prompt)

    def tokenize(self, texts: Texts, *, prompt: str = "", windows: WindowSettings | None = None) -> TokenizedTexts:
        """Tokenize texts; longer ones are truncated at `max_seq_length`, or cut into `windows`."""
        listed = as_list(texts)
        if self.do_lower_case:
            listed, prompt = [text.lower() for text in listed], prompt.lower()
        return tokenize_block(
            self._tokenizer_pool, listed, max_seq_length=self.max_seq_length, prompt=prompt, windows=windows
        )

    def encode(
        self,
        texts: Texts,
        *,
        side: Side | Literal["query", "document"] | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        windows: WindowSettings | None = None,
        token_budget: int | None = None,
    ) -> npt.NDArray[np.float32]:
        """Encode N texts, equal texts once. Return float32 vectors of shape (N, dim), in order.

        Name at most one of `side`, `prompt_name` and `prompt`. With none of them the model's default prompt is used, as in
        sentence-transformers. Code of this project always names one: a table holds vectors of documents.

        Args:
            texts: the texts.
            side: encode the texts as queries or as documents, with the model's own prompt for that side.
            prompt_name: name of the model's prompt to put before each text.
            prompt: the prompt itself.
            windows: cut longer texts into windows and average these, in place of truncation.
            token_budget: padded tokens of a batch; chosen by device when not given.

        Raises:
            SettingsError: when the model has no prompt of that name, or several prompts are named.
        """
        chosen = self._prompt(side, prompt_name, prompt)
        listed = as_list(texts)
        distinct = list(dict.fromkeys(listed))
        vectors_UD = np.empty((len(distinct), self.dim), dtype=np.float32)

        def tokenized() -> Iterator[TokenizedTexts]:
            for first in range(0, len(distinct), TEXTS_PER_BLOCK):
                yield self.tokenize(distinct[first : first + TEXTS_PER_BLOCK], prompt=chosen, windows=windows)

        blocks = tokenized() if len(distinct) <= TEXTS_PER_BLOCK else prefetch(tokenized(), 1)
        for number, tokens in enumerate(blocks):
            first = number * TEXTS_PER_BLOCK
            vectors_UD[first : first + len(tokens)] = self.encode_tokens(tokens, token_budget=token_budget)
        if len(distinct) == len(listed):
            return vectors_UD
        place_of = dict(zip(distinct, range(len(distinct)), strict=True))
        vectors_ND: npt.NDArray[np.float32] = vectors_UD[[place_of[text] for text in listed]]
        return vectors_ND

    def _prompt(self, side: str | None, name: str | None, prompt: str | None) -> str:
        if sum(choice is not None for choice in (side, name, prompt)) > 1:
            raise SettingsError(f"side is {side!r}, prompt_name {name!r} and prompt {prompt!r}: name only one of them")
        if side is not None:
            return self.prompt_for(Side(side))
        if prompt is not None:
            return prompt
        name = name or self.default_prompt_name
        if name is None:
            return ""
        if name not in self.prompts:
            raise SettingsError(f"the model has no prompt {name!r}, it has {sorted(self.prompts)}")
        return self.prompts[name]

    def encode_tokens(
        self,
        tokens: TokenizedTexts,
        *,
        token_budget: int | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Encode N tokenized texts; give float32 vectors of shape (N, dim), in order.

        When the device runs out of memory the token budget is halved, for good, and the batch is tried again.

        Raises:
            InterruptedError: when `should_stop` said so between two batches.
            MemoryError: when a single sequence does not fit.
        """
        with self._lock, torch.inference_mode():
            vectors_SD = self._token_budget.compute(
                self.chosen_runner.runner,
                tokens,
                dim=self.dim,
                device=self.device,
                token_budget=token_budget,
                should_stop=should_stop,
            )
        return join_windows(tokens, vectors_SD, normalize=self.normalizes)

    @property
    def chosen_runner(self) -> ChosenRunner:
        """How this encoder computes; chosen and proven at first use, and again when the weights have changed."""
        key = self._weights_key()
        if self._chosen is None or key != self._chosen_for:
            if key != self._chosen_for:
                self._reference_SD = None  # of other weights
            self._chosen = choose_runner(
                self.forward,
                self.transformer,
                self.pooling,
                self.layers,
                pad_id=self._pad_id,
                dim=self.dim,
                probe=self.tokenize(PROBE),
                reference_SD=self._reference_SD,
                token_budget=PROBE_TOKEN_BUDGET,
            )
            self._chosen_for = key
        return self._chosen

    def _plain_probe(self) -> npt.NDArray[np.float32]:
        """Give the vectors of the probe by the plain forward pass; called while the weights are float32."""
        return run_all(self.plain_runner(), self.tokenize(PROBE), self.dim, PROBE_TOKEN_BUDGET)

    def plain_runner(self) -> PaddedRunner:
        """Give the way of computing that changes nothing: the model's own forward pass on padded batches."""
        return PaddedRunner(self.forward, pad_id=self._pad_id, device=self.device)

    def packed_runner(self) -> PackedRunner | None:
        """Give the way of computing that needs nothing but torch; None when the encoder is not of the BERT family."""
        weights = read_weights(self.transformer)
        if weights is None:
            return None
        return PackedRunner(weights, self.pooling, self.layers, pad_id=self._pad_id, device=self.device)

    def _weights_key(self) -> tuple[tuple[int, int], ...]:
        """Give what changes when training, or a move to another device, has changed the weights."""
        return tuple((parameter.data_ptr(), parameter._version) for parameter in self.parameters())

    def forward(
        self, input_ids_BL: Tensor, attention_mask_BL: Tensor | None = None, num_prompt_tokens: int | Tensor = 0
    ) -> Tensor:
        """Give vectors of shape (B, dim), differentiable.

        Args:
            input_ids_BL: token ids, shape (B, L).
            attention_mask_BL: 1 for tokens, 0 for padding; None when nothing is padded.
            num_prompt_tokens: tokens at the beginning that belong to the prompt: one number for all texts, or shape (B,).
        """
        hidden_BLH = self.transformer(input_ids=input_ids_BL, attention_mask=attention_mask_BL).last_hidden_state
        mask_BL = torch.ones_like(input_ids_BL) if attention_mask_BL is None else attention_mask_BL
        if not self.pooling.include_prompt:
            num_prompt_B1 = torch.as_tensor(num_prompt_tokens, device=mask_BL.device).reshape(-1, 1)
            mask_BL = mask_BL * (torch.arange(mask_BL.shape[1], device=mask_BL.device) >= num_prompt_B1)
        vectors_BD = self.pooling(hidden_BLH, mask_BL)
        for layer in self.layers:
            vectors_BD = layer(vectors_BD)
        return vectors_BD  # type: ignore[no-any-return]

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write a folder that `from_pretrained` and ``SentenceTransformer(folder)`` load with equal vectors."""
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        self.transformer.save_pretrained(place)  # type: ignore[operator]
        self.hf_tokenizer.model_max_length = self.max_seq_length
        self.hf_tokenizer.save_pretrained(place)
        write_modules(
            place,
            [self.pooling, *self.layers],
            max_seq_length=self.max_seq_length,
            do_lower_case=self.do_lower_case,
            prompts=self.prompts,
            default_prompt=self.default_prompt_name,
        )
