"""``sbert settings``: every setting that ``--settings`` and ``--engine`` of a command take."""

import json
from collections.abc import Iterator
from enum import Enum, StrEnum
from importlib import import_module
from types import UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flows.cli.app import Panel, command
from flows.cli.options import Json
from flows.cli.output import answering, cell, out

REQUIRED = "(required)"
"""Stands in the place of a default where there is none."""


class Settable(StrEnum):
    """Commands with settings, and the engine."""

    REFRESH = "refresh"
    BACKFILL = "backfill"
    RETRAIN = "retrain"
    SUGGEST = "suggest"
    INDEX = "index"
    INDEX_WORDS = "index-words"
    ANSWER = "answer"
    CLASSIFY = "classify"
    ENTITIES = "entities"
    MAP = "map"
    MONITOR = "monitor"
    RECOMMEND = "recommend"
    RELATIONS = "relations"
    SUMMARIZE = "summarize"
    ENGINE = "engine"


MODELS = {
    Settable.REFRESH: ("sbert.refresh.job", "RefreshSettings"),
    Settable.BACKFILL: ("sbert.refresh.job", "RefreshSettings"),
    Settable.RETRAIN: ("sbert.retrain.settings", "RetrainSettings"),
    Settable.SUGGEST: ("sbert.suggest.settings", "SuggestSettings"),
    Settable.INDEX: ("sbert.index.index_settings", "IndexSettings"),
    Settable.INDEX_WORDS: ("sbert.index.words.settings", "WordSettings"),
    Settable.ANSWER: ("sbert.apply.answers.settings", "AnswerSettings"),
    Settable.CLASSIFY: ("sbert.apply.classification.settings", "ClassificationSettings"),
    Settable.ENTITIES: ("sbert.apply.entities.settings", "EntitySettings"),
    Settable.MAP: ("sbert.apply.map.settings", "MapSettings"),
    Settable.MONITOR: ("sbert.apply.monitoring.settings", "MonitoringSettings"),
    Settable.RECOMMEND: ("sbert.apply.recommendation.settings", "RecommendationSettings"),
    Settable.RELATIONS: ("sbert.apply.relations.settings", "RelationSettings"),
    Settable.SUMMARIZE: ("sbert.apply.summaries.settings", "SummarySettings"),
    Settable.ENGINE: ("flows.engines", "EngineSettings"),
}
"""Module and class of the settings; a module is imported when its settings are asked for."""


FORM_ONLY = frozenset({Settable.MAP, Settable.INDEX_WORDS})
"""Commands without an option for their settings."""


@command(Panel.LOOK, example="sbert settings refresh")
def settings(
    command: Annotated[Settable, typer.Argument(metavar="COMMAND", help="Command with settings.")] = Settable.REFRESH,
    as_json: Json = False,
) -> None:
    """List the settings of a command: name, type, default, meaning."""
    with answering(as_json=as_json) as answer:
        listed = [
            {"name": name, "type": _type_name(field.annotation), "default": _default(field), "meaning": _meaning(field)}
            for name, field in _fields(model_of(command))
        ]
        answer.print({"command": command.value, "settings": listed}, _show_settings)


def model_of(command: Settable) -> type[BaseModel]:
    """Return the settings of a command."""
    module, name = MODELS[command]
    return cast("type[BaseModel]", getattr(import_module(module), name))


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield the fields of nested settings under their full names."""
    for name, field in model.model_fields.items():
        inner = next((kind for kind in _kinds(field.annotation) if _is_model(kind)), None)
        if inner is None:
            yield f"{prefix}{name}", field
        else:
            is_list = get_origin(field.annotation) in {list, tuple}
            yield from _fields(inner, f"{prefix}{name}{'[]' if is_list else ''}.")


def _kinds(annotation: Any) -> Iterator[Any]:
    yield annotation
    for inner in get_args(annotation):
        yield from _kinds(inner)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _type_name(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(inner[0])
    if origin in {Union, UnionType}:
        return " or ".join(_type_name(kind) for kind in inner)
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin in {dict, list, tuple, set, frozenset}:
        parts = [_type_name(kind) for kind in inner if kind is not Ellipsis]
        return "object" if origin is dict else f"list of {' or '.join(dict.fromkeys(parts)) or 'values'}"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " or ".join(str(choice.value) for choice in annotation)
    names = {str: "text", int: "integer", float: "number", bool: "true or false", type(None): "null"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default(field: FieldInfo) -> Any:
    if field.is_required():
        return REQUIRED
    default = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(default, Enum):
        return default.value
    return list(default) if isinstance(default, tuple | set | frozenset) else default


def _shown(value: Any) -> str:
    """Return a default as JSON, a text without its quotes."""
    if isinstance(value, str) and value:
        return value
    return json.dumps(value, ensure_ascii=False, default=lambda kept: kept.model_dump(mode="json"))


def _meaning(field: FieldInfo) -> str:
    return " ".join((field.description or "").split())


def _show_settings(result: dict[str, Any]) -> None:
    for item in result["settings"]:
        default = item["default"] if item["default"] == REQUIRED else f"default {_shown(item['default'])}"
        out.print(f"[bold]{cell(item['name'])}[/bold] [dim]{cell(item['type'])}, {cell(default)}[/dim]")
        out.print(f"  {item['meaning']}", markup=False)
    out.print(_how_to_give(Settable(result["command"]), result["settings"]), markup=False)


def _how_to_give(command: Settable, listed: list[dict[str, Any]]) -> str:
    """Return a sentence that says how the settings are given, by the example of one of them."""
    if command is Settable.ENGINE:
        return 'Give them as --engine \'{"kind": "ray"}\'.'
    if command in FORM_ONLY:
        return "They are set in the form of the deployment, or in Python; the command has no option for them."
    nested = next((item for item in listed if "." in item["name"] and "[]" not in item["name"]), None)
    if nested is None:
        example = json.dumps({listed[0]["name"]: listed[0]["default"]}, ensure_ascii=False, default=str)
        return f"Give them as --settings '{example}'."
    value: Any = nested["default"]
    for part in reversed(nested["name"].split(".")):
        value = {part: value}
    shown = json.dumps(value, ensure_ascii=False, default=str)
    return f"A name with dots is a nested object: {nested['name']} is --settings '{shown}'."
