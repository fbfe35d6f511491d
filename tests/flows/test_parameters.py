"""Forms have at most ten fields that a person understands; the advanced field reads JSON, parsed or as text, or a file."""

import json
import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest
from prefect import Flow
from prefect.exceptions import ParameterTypeError
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools import validate

import flows
from flows.backfill import backfill_embeddings
from flows.classify import classify_table
from flows.erase import erase_rows
from flows.monitor import monitor_opinion
from flows.neighbours import find_neighbours
from flows.parameters import AdvancedSettings
from flows.refresh import refresh_embeddings
from sbert.errors import SettingsError
from sbert.source.formats.all_formats import COMPRESSIONS, FORMATS


def all_flows() -> list[Flow[..., Any]]:
    """Return every flow of the package, by name: a form that is added later is looked at, too."""
    modules = [import_module(f"flows.{module.name}") for module in iter_modules(flows.__path__) if not module.ispkg]
    flow_by_name = {flow.name: flow for module in modules for flow in vars(module).values() if isinstance(flow, Flow)}
    return [flow_by_name[name] for name in sorted(flow_by_name)]


FLOWS = all_flows()
WHERE = {"raw_uri": "raw", "table_uri": "table"}
ALL_FLOWS = pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)


def fields_of(flow: Flow[..., Any]) -> dict[str, dict[str, Any]]:
    return dict(flow.parameters.model_dump()["properties"])


def advanced_of(settings: object) -> AdvancedSettings:
    advanced = backfill_embeddings.validate_parameters({**WHERE, "settings": settings})["settings"]
    assert isinstance(advanced, AdvancedSettings)
    return advanced


@ALL_FLOWS
def test_a_form_has_at_most_ten_fields_each_with_title_description_and_default(flow: Flow[..., Any]) -> None:
    required = flow.parameters.required
    assert len(fields_of(flow)) <= 10
    for name, field in fields_of(flow).items():
        assert field["title"][0].isupper(), name
        assert "_" not in field["title"], name
        assert len(field["description"]) > 20, name
        assert "default" in field or name in required, name


@ALL_FLOWS
def test_each_field_for_text_a_list_or_an_object_has_an_example(flow: Flow[..., Any]) -> None:
    for name, field in fields_of(flow).items():
        kinds = {field.get("type"), *(choice.get("type") for choice in field.get("anyOf", []))}
        is_written = kinds & {"string", "array", "object"} and "enum" not in field
        assert not is_written or "Example: " in field["description"], name


@pytest.mark.parametrize("flow", [refresh_embeddings, backfill_embeddings], ids=lambda flow: flow.name)
def test_the_field_for_raw_text_names_every_ending_that_is_read(flow: Flow[..., Any]) -> None:
    description = fields_of(flow)["raw_uri"]["description"]
    endings = {ending for each_format in FORMATS.values() for ending in each_format.endings}
    assert {".tsv", ".ndjson", ".json"} <= endings
    words = {word.rstrip(".") for word in re.split(r"[\s,]+", description)}
    missing = {*endings, *COMPRESSIONS, ".zip"} - words
    assert missing == set()


@ALL_FLOWS
def test_no_field_of_a_form_opens_into_further_fields(flow: Flow[..., Any]) -> None:
    assert not [name for name, field in fields_of(flow).items() if "$ref" in str(field) or "properties" in field]


@ALL_FLOWS
def test_the_server_accepts_every_default_as_the_form_sends_it(flow: Flow[..., Any]) -> None:
    schema = parameter_schema(flow).model_dump()
    defaults = {name: field["default"] for name, field in schema["properties"].items() if "default" in field}
    required = dict.fromkeys(schema["required"], "somewhere")
    if "settings" in required:
        required["settings"] = '{"time_column": "created_at"}'
    validate({**required, **defaults}, schema, raise_on_error=True)
    flow.validate_parameters({**required, **defaults})


@ALL_FLOWS
def test_only_dates_and_numbers_are_a_choice_between_a_value_and_nothing(flow: Flow[..., Any]) -> None:
    nullable = {name for name, field in fields_of(flow).items() if {"type": "null"} in field.get("anyOf", [])}
    assert nullable <= {"since", "until", "limit", "num_topics", "similarity", "precision"}


@pytest.mark.parametrize(
    "given",
    [
        {"cleaning": {"min_chars": 3}, "concurrency": 4},
        '{"cleaning": {"min_chars": 3}, "concurrency": 4}',
        ' \n{"cleaning": {"min_chars": 3}, "concurrency": 4}',
    ],
    ids=["parsed", "text", "blanks before"],
)
def test_the_advanced_field_reads_json(given: object) -> None:
    advanced = advanced_of(given)
    assert advanced.cleaning.min_chars == 3
    assert advanced.concurrency == 4
    assert advanced.refresh_settings().model_dump(exclude_unset=True) == {"cleaning": {"min_chars": 3}}


@pytest.mark.parametrize("prefix", ["", "@"])
def test_the_advanced_field_reads_a_file(tmp_path: Path, prefix: str) -> None:
    (tmp_path / "settings.json").write_text(json.dumps({"engine": "dask", "exclude": ["*.tmp"]}))
    advanced = advanced_of(f"{prefix}{tmp_path}/settings.json")
    assert advanced.engine is not None
    assert advanced.engine.kind.value == "dask"
    assert advanced.exclude == ("*.tmp",)


@pytest.mark.parametrize("empty", [None, "", "  "])
def test_an_empty_field_is_no_setting(empty: object) -> None:
    given = {**WHERE, "settings": empty, "include": [], "since": "", "limit": None}
    parameters = backfill_embeddings.validate_parameters(given)
    assert parameters["settings"] is None
    assert parameters["include"] is None
    assert parameters["since"] is None


def test_an_empty_row_of_a_list_is_no_name() -> None:
    only = refresh_embeddings.validate_parameters({**WHERE, "keep_columns": [""]})
    assert only["keep_columns"] is None  # the table's own
    beside = backfill_embeddings.validate_parameters({**WHERE, "include": ["", "a*"]})
    assert beside["include"] == ["a*"]


def test_the_advanced_field_of_an_application_reads_json_and_defaults() -> None:
    places = {"table_uri": "table", "labels_uri": "labels", "out_uri": "out"}
    text = '{"head": {"promised_error": 0.2}}'
    assert classify_table.validate_parameters({**places, "settings": text})["settings"].head.promised_error == 0.2
    assert classify_table.validate_parameters({**places, "settings": ""})["settings"].head.promised_error == 0.05
    with pytest.raises((ParameterTypeError, SettingsError), match="time_column"):
        monitor_opinion.validate_parameters({"predictions_uri": "classes", "out_uri": "out", "settings": ""})


@pytest.mark.parametrize(
    ("given", "kind"),
    [("", "local"), ("ray", "ray"), ('{"kind": "dask", "cpus_per_worker": 2}', "dask"), ({"kind": "ray"}, "ray")],
)
def test_an_engine_is_named_or_described(given: object, kind: str) -> None:
    engine = find_neighbours.validate_parameters({"table_uri": "table", "out_uri": "out", "engine": given})["engine"]
    assert engine.kind.value == kind


@pytest.mark.parametrize("given", ['{"lancedb:lance#docs": ""}', {"lancedb:lance#docs": ""}], ids=["text", "parsed"])
def test_vector_stores_of_an_erasure_are_a_json_object(given: object) -> None:
    parameters = erase_rows.validate_parameters({"table_uri": "table", "destinations": given})
    assert parameters["destinations"] == {"lancedb:lance#docs": ""}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ('{"cleaning": {"min_char": 3}}', "cleaning.min_char: no such setting, did you mean min_chars"),
        ({"cleaning": {"min_chars": 0}}, "greater than or equal to 1"),
        ("nowhere.json", "settings 'nowhere.json': neither a JSON object nor a file that can be read"),
        ({"cleaning": {"min_char": 3}}, "cleaning.min_char: no such setting, did you mean min_chars"),
        ("{", " - settings: Invalid JSON: EOF while parsing an object at line 1 column 1"),
    ],
)
def test_wrong_advanced_settings_say_what_is_wrong(wrong: object, message: str) -> None:
    with pytest.raises((ParameterTypeError, SettingsError), match=message) as raised:
        backfill_embeddings.validate_parameters({**WHERE, "settings": wrong})
    assert "Value error" not in str(raised.value)


def test_a_wrong_engine_and_wrong_stores_say_what_is_wrong() -> None:
    with pytest.raises(ParameterTypeError, match=" - engine: gpus: no such setting; the settings are kind, address"):
        backfill_embeddings.validate_parameters({**WHERE, "engine": '{"kind": "ray", "gpus": 1}'})
    with pytest.raises(ParameterTypeError, match=r" - destinations: '\{' is not a JSON object"):
        erase_rows.validate_parameters({"table_uri": "table", "destinations": "{"})


@pytest.mark.usefixtures("prefect_server")
def test_hidden_parameters_are_taken_from_python(tmp_path: Path, model: str) -> None:
    (tmp_path / "raw").mkdir()
    for name in ("a", "b"):
        (tmp_path / f"raw/{name}.jsonl").write_text(json.dumps({"id": name, "text": f"text of {name}"}) + "\n")
    state = backfill_embeddings(
        str(tmp_path / "raw"),
        str(tmp_path / "table"),
        model=model,
        exclude=["b.jsonl"],
        concurrency=1,
        return_state=True,
    )
    assert state.message == "Version 0: 1 row, 1 encoded, 0 carried over, 0 rejected"
    planned = refresh_embeddings(str(tmp_path / "raw"), str(tmp_path / "table"), dry_run=True, return_state=True)
    assert planned.message is not None
    assert planned.message.startswith("Planned only: 1 split to build")
