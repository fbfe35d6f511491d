"""The settings files of a model folder: every field that sentence-transformers honours is taken, or refused by name.

A field that is not understood may decide the vectors. So an unknown field is an error, and so is a known field with a value
that this library cannot follow. Fields that only concern speed, files or other kinds of input are listed as ignored.
"""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from sbert.errors import ModelError

__all__ = ["FolderSettings", "TextSettings", "read_folder_settings", "read_json", "read_text_settings", "refuse"]

TEXT_SETTINGS_FILES = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
"""Names that the transformer's settings had in the versions of sentence-transformers; the first that is not empty counts."""
FOLDER_SETTINGS_FILE = "config_sentence_transformers.json"

RENAMED = {"model_args": "model_kwargs", "tokenizer_args": "processor_kwargs", "config_args": "config_kwargs"}
IGNORED_TEXT_SETTINGS = frozenset({"unpad_inputs"})
ONLY_VALUE: dict[str, object] = {
    "transformer_task": "feature-extraction",
    "module_output_name": "token_embeddings",
    "query_length": None,
    "document_length": None,
    "query_expansion": None,
    "tokenizer_name_or_path": None,
}
"""Fields of the transformer that have one value that can be followed, which is also their default."""
TOKEN_VECTORS = {"method": "forward", "method_output_name": "last_hidden_state"}
IGNORED_ARGUMENTS: dict[str, frozenset[str]] = {
    "model_kwargs": frozenset(
        {
            "add_pooling_layer", "attn_implementation", "device_map", "dtype", "low_cpu_mem_usage", "revision",
            "torch_dtype", "trust_remote_code", "use_safetensors",
        }
    ),
    "processor_kwargs": frozenset(
        {"clean_up_tokenization_spaces", "model_max_length", "padding_side", "revision", "trust_remote_code", "use_fast"}
    ),
    "config_kwargs": frozenset({"dtype", "revision", "torch_dtype", "trust_remote_code", "use_cache"}),
}  # fmt: skip
"""Arguments of transformers that do not decide the vectors, or that are taken elsewhere."""


@dataclass(frozen=True)
class TextSettings:
    """Settings by which the transformer of a folder reads texts."""

    max_seq_length: int | None = None
    do_lower_case: bool = False


@dataclass(frozen=True)
class FolderSettings:
    """Settings of a whole sentence-transformers folder."""

    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    truncate_dim: int | None = None
    similarity_fn_name: str | None = None


def refuse(path: Path, name: str, value: object, remedy: str) -> ModelError:
    """Return the error for a field that is not supported."""
    return ModelError(f"{path}: {name} is {json.dumps(value)[:200]}, which is not supported: {remedy}")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, an empty one if there is no such file.

    Raises:
        ModelError: when the file does not hold a JSON object.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: holds a JSON {type(content).__name__}, expected an object")
    return content


def read_text_settings(folder: Path) -> TextSettings:
    """Read ``sentence_bert_config.json`` of the transformer's folder, or the same file under one of its former names.

    Raises:
        ModelError: when a field, or its value, is not supported.
    """
    contents = ((folder / name, read_json(folder / name)) for name in TEXT_SETTINGS_FILES)
    path, content = next(((path, content) for path, content in contents if content), (folder, {}))
    values = {RENAMED.get(name, name): value for name, value in content.items() if name not in IGNORED_TEXT_SETTINGS}
    taken = {"max_seq_length", "do_lower_case", "modality_config", "processing_kwargs", *ONLY_VALUE, *IGNORED_ARGUMENTS}
    for name in sorted(values.keys() - taken):
        raise refuse(path, name, values[name], "remove the field if it does not change vectors")
    for name, only in ONLY_VALUE.items():
        if values.get(name, only) != only:
            raise refuse(path, name, values[name], f"only {json.dumps(only)} is")
    for name, ignored in IGNORED_ARGUMENTS.items():
        for argument in sorted((values.get(name) or {}).keys() - ignored):
            raise refuse(
                path, f"{name}.{argument}", values[name][argument], "save the model with this argument applied"
            )
    _check_modalities(path, values.get("modality_config"))
    for kind in ("common", "text", "chat_template"):
        if (values.get("processing_kwargs") or {}).get(kind):
            remedy = "set max_seq_length instead, and remove the field"
            raise refuse(path, f"processing_kwargs.{kind}", values["processing_kwargs"][kind], remedy)
    length = (values.get("processor_kwargs") or {}).get("model_max_length", values.get("max_seq_length"))
    if length is not None and (isinstance(length, bool) or not isinstance(length, int) or length < 1):
        raise refuse(path, "max_seq_length", length, "expected a number of tokens")
    return TextSettings(max_seq_length=length, do_lower_case=bool(values.get("do_lower_case", False)))


def _check_modalities(path: Path, modalities: Mapping[str, Any] | None) -> None:
    """Check that a text goes through the transformer's forward pass and that its token vectors come out."""
    if modalities is None:
        return
    text = modalities.get("text")
    if text != TOKEN_VECTORS or "message" in modalities:
        name = "message" if "message" in modalities else "text"
        raise refuse(
            path, f"modality_config.{name}", modalities.get(name), f"only text as {json.dumps(TOKEN_VECTORS)} is"
        )


def read_folder_settings(folder: Path) -> FolderSettings:
    """Read ``config_sentence_transformers.json``.

    Raises:
        ModelError: when the folder holds another kind of model, needs other versions of packages, or a field is invalid.
    """
    path = folder / FOLDER_SETTINGS_FILE
    values = read_json(path)
    if values.get("model_type", "SentenceTransformer") != "SentenceTransformer":
        raise refuse(
            path, "model_type", values["model_type"], "only a SentenceTransformer gives one vector for each text"
        )
    _check_requirements(path, values.get("requirements"))
    prompts = {str(name): text if text is not None else "" for name, text in (values.get("prompts") or {}).items()}
    for name, text in prompts.items():
        if not isinstance(text, str):
            raise refuse(path, f"prompts.{name}", text, "expected a string")
    default = values.get("default_prompt_name")
    if default is not None and default not in {*prompts, "query", "document"}:
        raise ModelError(f"{path}: default_prompt_name is {default!r}, but the prompts are {sorted(prompts)}")
    if default is not None:
        prompts.setdefault(default, "")
    truncate_dim = values.get("truncate_dim")
    if truncate_dim is not None and (not isinstance(truncate_dim, int) or truncate_dim < 1):
        raise refuse(path, "truncate_dim", truncate_dim, "expected a number of values")
    return FolderSettings(prompts, default, truncate_dim, values.get("similarity_fn_name"))


def _check_requirements(path: Path, requirements: object) -> None:
    """Check the versions of packages that the author of a model asks for. Unreadable versions are ignored."""
    for name, requirement in (requirements if isinstance(requirements, dict) else {}).items():
        asked = requirement.get("specifier", "") if isinstance(requirement, dict) else requirement
        package = "torch" if name == "pytorch" else str(name)
        if package in {"sentence_transformers", "sentence-transformers"}:
            continue  # this library does not read the folder with sentence-transformers
        try:
            wanted = SpecifierSet(str(asked))
        except InvalidSpecifier:
            continue
        installed = _installed_version(package)
        if installed is None or not wanted.contains(installed, prereleases=True):
            installation = f"installed is {installed}" if installed is not None else "it is not installed"
            raise ModelError(f"{path}: the model needs {package}{wanted}, {installation}: install that version")


def _installed_version(package: str) -> str | None:
    if package == "python":
        return platform.python_version()
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
