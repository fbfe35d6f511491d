"""Sentence-BERT: texts in, vectors out.

An encoder is a transformer, a pooling and a few layers. Texts are tokenized in blocks and cut into batches of like length.
The fastest runner that is proven to give the right vectors computes them (`sbert.encoder.engine`).

    from sbert import SentenceEncoder
    encoder = SentenceEncoder.from_pretrained()
    vectors = encoder.encode(["How do I reset my password?", "Forgot my login"])   # float32, shape (2, 384)
"""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sbert.encoder.description import EncoderDescription
from sbert.encoder.engine.budget import TokenBudget
from sbert.encoder.engine.dtype import ComputeDtype, value_dtype
from sbert.encoder.engine.packed import PackedRunner
from sbert.encoder.engine.padded import PaddedRunner
from sbert.encoder.engine.proven_runner import ProvenRunner
from sbert.encoder.engine.rounding import round_transformer
from sbert.encoder.engine.runner_selection import (
    PROBE,
    SelectedRunner,
    make_proven_runner,
    run_all,
    select_runner,
)
from sbert.encoder.engine.weights import RoundedLayer, read_weights, weights_version
from sbert.encoder.fingerprint import hash_encoder
from sbert.encoder.model_location import DEFAULT_MODEL
from sbert.encoder.module_files import write_modules
from sbert.encoder.modules import Normalize, describe_layer
from sbert.encoder.pooling import Pooling
from sbert.encoder.pretrained import load_parts, output_dim
from sbert.encoder.prompts import choose_prompt, prompt_of_side
from sbert.encoder.side import Side
from sbert.encoder.tokenization.process_pool import TokenizerPool, num_tokenizer_processes
from sbert.encoder.tokenization.texts import Texts, as_list, check_text
from sbert.encoder.tokenization.token_ids import (
    TokenizedTexts,
    check_max_seq_length,
    count_prompt_tokens,
    plain_tokenizer,
    tokenize_block,
)
from sbert.encoder.tokenization.window_settings import WindowSettings
from sbert.encoder.tokenization.windows import join_windows
from sbert.encoder.transformer import check_vocabulary
from sbert.encoder.type_choice import build_in_fastest_type
from sbert.runtime.hardware import default_device, limit_threads
from sbert.runtime.prefetch import prefetch

__all__ = ["SentenceEncoder"]

PROBE_TOKEN_BUDGET = 1_024
TEXTS_PER_BLOCK = 16_384
"""Texts that `encode` tokenizes and packs together."""


class SentenceEncoder(nn.Module):
    """A Sentence-BERT encoder (Reimers and Gurevych 2019). Threads may share one."""

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
        similarity: str | None = None,
        do_lower_case: bool = False,
        compute_dtype: ComputeDtype = ComputeDtype.FLOAT32,
        device: str | torch.device | None = None,
        proven_runner: ProvenRunner | None = None,
    ) -> None:
        """Put an encoder together from its parts. `from_pretrained` is the usual way.

        Args:
            transformer: a Hugging Face encoder in float32: takes input_ids and attention_mask, returns last_hidden_state.
            tokenizer: its fast tokenizer (``PreTrainedTokenizerFast``).
            pooling: turns token vectors into one vector.
            layers: modules of `sbert.encoder.modules`, applied in order.
            max_seq_length: tokens after which a text is truncated, special tokens included.
            model_id: the name of the encoder that readers of a table see.
            prompts: texts put before others, by name (``query``, ``document``).
            default_prompt_name: the prompt that `encode` uses when it is called without one.
            similarity: the model's own name for how vectors are compared, kept for `save_pretrained`.
            do_lower_case: lower-case texts before tokenizing.
            compute_dtype: type the transformer computes in.
            device: where it computes; by default CUDA, else MPS, else CPU.
            proven_runner: a runner that was proven on this machine for these very weights, to use without another proof.

        Raises:
            ModelError: when the tokenizer has more tokens than the transformer has embeddings.
            SettingsError: when `max_seq_length` leaves no room for a token, or the encoder cannot compute in int8.
        """
        super().__init__()
        self.model_id = model_id
        self.compute_dtype = ComputeDtype(compute_dtype)
        self.max_seq_length = max_seq_length
        self.prompts = dict(prompts or {})
        self.default_prompt_name = default_prompt_name
        self.similarity = similarity
        self.do_lower_case = do_lower_case
        self.hf_tokenizer = tokenizer
        self.pooling = pooling
        self.layers = nn.ModuleList(layers)
        self.transformer = transformer
        self._tokenizer = plain_tokenizer(tokenizer, do_lower_case=do_lower_case)
        self._pad_id = int(tokenizer.pad_token_id or 0)
        check_vocabulary(self._tokenizer, transformer, model_id)
        check_max_seq_length(self._tokenizer, max_seq_length)
        self.eval()
        # The fingerprint is of the weights as they are stored, before they are converted to the compute dtype.
        self.fingerprint = self._hash()
        """Hash of everything that decides a text's vector; 64 hex digits, the same wherever the model lies."""
        target = torch.device(device) if device is not None else default_device()
        self._tokenizer_pool = TokenizerPool(
            self._tokenizer, num_tokenizer_processes(target.type, torch.get_num_threads())
        )
        self._reference_SD: npt.NDArray[np.float32] | None = None
        if self.compute_dtype is not ComputeDtype.FLOAT32 and proven_runner is None:  # while the weights are float32
            self._reference_SD = run_all(self.plain_runner(), self.tokenize(PROBE), self.dim, PROBE_TOKEN_BUDGET)
        self._rounded = self._round()
        self.to(target)
        self.transformer.to(dtype=value_dtype(self.compute_dtype))
        self._lock = threading.Lock()
        self._token_budget = TokenBudget()
        self._selected_runner: SelectedRunner | None = None
        if proven_runner is not None:
            self._selected_runner = make_proven_runner(
                proven_runner, self.transformer, self.pooling, self.layers, rounded=self._rounded, pad_id=self._pad_id
            )
        self._weights_at_selection = weights_version(self)

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
            compute_dtype: type the transformer computes in. None for the fastest type that this machine has units for, if
                its vectors are those of float32 (cosine of at least 0.999 on a probe). Train in float32.
            max_seq_length: tokens after which a text is truncated; by default the model's own limit.
            normalize: True or False to give vectors unit length or not; None for what the model says.

        Raises:
            ModelError: when the model cannot be found, or cannot be loaded whole and safely.
            SettingsError: when `max_seq_length` is out of the model's range.
        """
        limit_threads()
        target = torch.device(device) if device is not None else default_device()
        name = os.fspath(model)
        return build_in_fastest_type(
            name,
            lambda: load_parts(model, max_seq_length=max_seq_length, normalize=normalize),
            lambda parts, dtype: cls(**vars(parts), model_id=name, device=target, compute_dtype=dtype),
            target,
            compute_dtype,
        )

    @property
    def device(self) -> torch.device:
        """Return the device that the encoder computes on."""
        return next(self.transformer.parameters()).device

    @property
    def dim(self) -> int:
        """Values in one vector."""
        return output_dim(self.pooling, list(self.layers))

    @property
    def pooling_name(self) -> str:
        """Return the name of the pooling, for example ``mean`` or ``cls+max``."""
        return "+".join(mode.value for mode in self.pooling.modes)

    @property
    def normalizes(self) -> bool:
        """Return whether vectors have unit length."""
        return len(self.layers) > 0 and isinstance(self.layers[-1], Normalize)

    @property
    def description(self) -> EncoderDescription:
        """Everything that decides the vectors, and their shape."""
        return EncoderDescription(
            fingerprint=self.fingerprint,
            dim=self.dim,
            pooling_name=self.pooling_name,
            normalizes=self.normalizes,
            max_seq_length=self.max_seq_length,
            compute_dtype=self.compute_dtype,
            prompts=self.prompts,
        )

    def prompt_for(self, side: Side) -> str:
        """Return the prompt for one side, by the rule of sentence-transformers; an empty string if there is none."""
        return prompt_of_side(self.prompts, side)

    def num_prompt_tokens(self, prompt: str) -> int:
        """Return the number of tokens that a prompt puts at the beginning of a text, the leading special token included."""
        return count_prompt_tokens(self._tokenizer, prompt)

    def tokenize(self, texts: Texts, *, prompt: str = "", windows: WindowSettings | None = None) -> TokenizedTexts:
        """Tokenize texts, each after `prompt`. Longer texts are truncated at `max_seq_length`, or cut into `windows`.

        Raises:
            SettingsError: when one of the texts is no text, or the windows leave no room for a text.
        """
        check_text(prompt, "prompt")
        return self._tokenize(as_list(texts), prompt, windows)

    def _tokenize(self, texts: list[str], prompt: str, windows: WindowSettings | None) -> TokenizedTexts:
        return tokenize_block(
            self._tokenizer_pool, texts, max_seq_length=self.max_seq_length, prompt=prompt, windows=windows
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
            windows: cut longer texts into windows and average their vectors, instead of truncating the texts.
            token_budget: padded tokens of a batch; chosen by device when not given.

        Raises:
            SettingsError: when one of the texts is no text (the message names its place), the model has no prompt of that
                name, or several prompts are named.
        """
        text_prompt = choose_prompt(self.prompts, self.default_prompt_name, side=side, name=prompt_name, prompt=prompt)
        distinct = list(dict.fromkeys(listed := as_list(texts)))
        vectors_UD = np.empty((len(distinct), self.dim), dtype=np.float32)

        firsts = range(0, len(distinct), TEXTS_PER_BLOCK)
        blocks = (self._tokenize(distinct[at : at + TEXTS_PER_BLOCK], text_prompt, windows) for at in firsts)
        for first, tokens in zip(firsts, prefetch(blocks, 1) if len(firsts) > 1 else blocks, strict=True):
            vectors_UD[first : first + len(tokens)] = self.encode_tokens(tokens, token_budget=token_budget)
        if len(distinct) == len(listed):
            return vectors_UD
        place_of = {text: place for place, text in enumerate(distinct)}
        vectors_ND: npt.NDArray[np.float32] = vectors_UD[[place_of[text] for text in listed]]
        return vectors_ND

    def encode_tokens(
        self,
        tokens: TokenizedTexts,
        *,
        token_budget: int | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Encode N tokenized texts. Return float32 vectors of shape (N, dim), in order.

        When the device runs out of memory, the token budget is halved for good and the batch is tried again.

        Raises:
            InterruptedError: when `should_stop` returned True between two batches.
            MemoryError: when a single sequence does not fit.
        """
        with self._lock, torch.inference_mode():
            vectors_SD = self._token_budget.compute(
                self.selected_runner.runner,
                tokens,
                dim=self.dim,
                device=self.device,
                token_budget=token_budget,
                should_stop=should_stop,
            )
        return join_windows(tokens, vectors_SD, normalize=self.normalizes)

    @property
    def selected_runner(self) -> SelectedRunner:
        """Return the runner that computes; it is selected and proven at first use and after a change of the weights."""
        weights = weights_version(self)
        is_changed = weights != self._weights_at_selection
        if self._selected_runner is None or is_changed:
            if is_changed:
                self._reference_SD = None  # it was computed from other weights
                self._rounded = self._round()
            self._selected_runner = select_runner(
                self.forward,
                self.transformer,
                self.pooling,
                self.layers,
                pad_id=self._pad_id,
                dim=self.dim,
                probe=self.tokenize(PROBE),
                reference_SD=self._reference_SD,
                token_budget=PROBE_TOKEN_BUDGET,
                rounded=self._rounded,
            )
            self._weights_at_selection = weights
        return self._selected_runner

    def plain_runner(self) -> PaddedRunner:
        """Return the runner that changes nothing: the model's own forward pass on padded batches."""
        return PaddedRunner(self.forward, pad_id=self._pad_id, device=self.device)

    def _round(self) -> tuple[RoundedLayer, ...] | None:
        """Return the weights in 8-bit integers, if the encoder computes in them."""
        is_int8 = self.compute_dtype is ComputeDtype.INT8
        return round_transformer(self.transformer, self.model_id) if is_int8 else None

    def packed_runner(self) -> PackedRunner | None:
        """Return the runner for packed tokens, which needs only torch; None when the encoder is not of the BERT family."""
        if (weights := read_weights(self.transformer)) is None:
            return None
        is_changed = weights_version(self) != self._weights_at_selection
        weights = replace(weights, rounded=self._round() if is_changed else self._rounded)
        return PackedRunner(weights, self.pooling, self.layers, pad_id=self._pad_id, device=self.device)

    def _hash(self) -> str:
        """Return the hash of the weights and of all settings that decide vectors."""
        tensors = {name: tensor for name, tensor in self.state_dict().items() if ".pooler." not in name}
        settings = {
            "tokenizer": self._tokenizer.to_str(),
            "do_lower_case": self.do_lower_case,
            "pooling": [self.pooling_name, self.pooling.include_prompt],
            "layers": [describe_layer(layer) for layer in self.layers],
            "max_seq_length": self.max_seq_length,
            "dim": self.dim,
            "precision": "float32",
            "compute_dtype": self.compute_dtype.value,
        }
        return hash_encoder(tensors, settings)

    def forward(
        self, input_ids_BL: Tensor, attention_mask_BL: Tensor | None = None, num_prompt_tokens: int | Tensor = 0
    ) -> Tensor:
        """Return vectors of shape (B, dim), differentiable.

        Args:
            input_ids_BL: token ids, shape (B, L).
            attention_mask_BL: 1 for tokens, 0 for padding; None when nothing is padded.
            num_prompt_tokens: tokens at the beginning that belong to the prompt: one number for all texts, or shape (B,).
        """
        hidden_BLH = self.transformer(input_ids=input_ids_BL, attention_mask=attention_mask_BL).last_hidden_state
        mask_BL = torch.ones_like(input_ids_BL) if attention_mask_BL is None else attention_mask_BL
        vectors_BD = self.pooling(hidden_BLH, self.pooling.without_prompt(mask_BL, num_prompt_tokens))
        for layer in self.layers:
            vectors_BD = layer(vectors_BD)
        return vectors_BD  # type: ignore[no-any-return]

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write a folder that `from_pretrained` and ``SentenceTransformer(folder)`` load with equal vectors.

        Raises:
            ModelError: when the format cannot express the model.
        """
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        self.transformer.save_pretrained(target)  # type: ignore[operator]
        self.hf_tokenizer.model_max_length = self.max_seq_length
        self.hf_tokenizer.save_pretrained(target)
        write_modules(
            target,
            [self.pooling, *self.layers],
            max_seq_length=self.max_seq_length,
            do_lower_case=self.do_lower_case,
            prompts=self.prompts,
            default_prompt=self.default_prompt_name,
            similarity=self.similarity,
        )
