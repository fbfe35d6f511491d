"""Wrong settings are named in full, with the names that were probably meant."""

import pytest
from pydantic import BaseModel

from sbert.errors import SettingsError
from sbert.refresh.job import RefreshSettings
from sbert.retrain.settings import RetrainSettings
from sbert.settings import problem, read_settings


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        (RetrainSettings, '{"trainin": {}}', "trainin: no such setting, did you mean training?"),
        (
            RetrainSettings,
            '{"training": {"epoch": 1, "adapter": {"rnk": 2}}}',
            "training.adapter.rnk: no such setting, did you mean rank?; training.epoch: no such setting, did you mean epochs?",
        ),
        (
            RetrainSettings,
            '{"regression_sets": [{"name": "sts", "uri": "x", "labels": {"scoremax": 5}}]}',
            "regression_sets.0.labels.scoremax: no such setting, did you mean score_max or score_min?",
        ),
        (
            RetrainSettings,
            '{"gate": {"zzz": 1}}',
            "gate.zzz: no such setting; the settings of gate are margin, tolerance, tolerances",
        ),
        (RetrainSettings, '{"zzz": 1}', "zzz: no such setting; the settings are labels, recipe, training"),
        (RetrainSettings, '{"recipe": "few"}', "recipe: unknown recipe 'few'; choose one of scored_pairs"),
        (RetrainSettings, '{"training": {"epochs": -1}}', "training.epochs: Input should be greater than 0"),
        (RetrainSettings, '{"training": ', "settings: Invalid JSON"),
        (RefreshSettings, '{"encodin": {}}', "encodin: no such setting, did you mean encoding?"),
    ],
)
def test_an_error_names_the_wrong_setting_and_the_remedy(kind: type[BaseModel], text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(kind, text)
    assert str(caught.value).startswith(said)


def test_right_settings_are_read() -> None:
    assert read_settings(RetrainSettings, '{"training": {"epochs": 2}}').training_for("scored_pairs").epochs == 2


def test_a_message_that_names_its_field_names_it_once() -> None:
    assert problem(("bucket",), "Value error, bucket is '5x', expected 6h") == "bucket is '5x', expected 6h"
    assert problem(("fit", "bucket"), "Value error, bucket is '5x'") == "fit.bucket is '5x'"
    assert problem(("fit", 0), "Input should be 1") == "fit.0: Input should be 1"
    assert problem((), "Value error, both are named") == "settings: both are named"
