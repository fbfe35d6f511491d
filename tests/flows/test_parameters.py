"""Forms have at most ten fields that a person understands; the advanced field reads JSON, parsed or as text, or a file."""

import json
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow
from prefect.exceptions import ParameterTypeError
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools import validate

from flows.backfill import backfill_embeddings
from flows.parameters import AdvancedSettings
from flows.refresh import refresh_embeddings
from flows.retrain import retrain_encoder
from flows.upkeep import upkeep_table
from flows.watch_labels import watch_labels
from sbert.errors import SettingsError

FLOWS = [refresh_embeddings, backfill_embeddings, retrain_encoder, upkeep_table, watch_labels]
WHERE = {"raw_uri": "raw", "table_uri": "table"}
ALL_FLOWS = pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)


def fields_of(flow: Flow[..., Any]) -> dict[str, dict[str, Any]]:
    return dict(flow.parameters.model_dump()["properties"])


def advanced_of(settings: object) -> AdvancedSettings:
    found = backfill_embeddings.validate_parameters({**WHERE, "settings": settings})["settings"]
    assert isinstance(found, AdvancedSettings)
    return found


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
def test_the_server_accepts_every_default_as_the_form_sends_it(flow: Flow[..., Any]) -> None:
    schema = parameter_schema(flow).model_dump()
    defaults = {name: field["default"] for name, field in schema["properties"].items() if "default" in field}
    required = dict.fromkeys(schema["required"], "somewhere")
    validate({**required, **defaults}, schema, raise_on_error=True)
    flow.validate_parameters({**required, **defaults})


@ALL_FLOWS
def test_only_dates_and_numbers_are_a_choice_between_a_value_and_nothing(flow: Flow[..., Any]) -> None:
    nullable = {name for name, field in fields_of(flow).items() if {"type": "null"} in field.get("anyOf", [])}
    assert nullable <= {"since", "until", "limit"}


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
    found = backfill_embeddings.validate_parameters(given)
    assert found["settings"] is None
    assert found["include"] is None
    assert found["since"] is None


def test_an_empty_row_of_a_list_is_no_name() -> None:
    only = refresh_embeddings.validate_parameters({**WHERE, "keep_columns": [""]})
    assert only["keep_columns"] is None  # the table's own
    beside = backfill_embeddings.validate_parameters({**WHERE, "include": ["", "a*"]})
    assert beside["include"] == ["a*"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ('{"cleaning": {"min_char": 3}}', "cleaning.min_char: no such setting, did you mean min_chars"),
        ({"cleaning": {"min_chars": 0}}, "greater than or equal to 1"),
        ("nowhere.json", "settings 'nowhere.json': neither a JSON object nor a file that can be read"),
        ("{", "settings"),
    ],
)
def test_wrong_advanced_settings_say_what_is_wrong(wrong: object, message: str) -> None:
    with pytest.raises((ParameterTypeError, SettingsError), match=message):
        backfill_embeddings.validate_parameters({**WHERE, "settings": wrong})


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
