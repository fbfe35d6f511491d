"""The memory of a search: an Optuna study in the folder of the run's checkpoints, on a disk or in object storage.

``search/study.jsonl``         Optuna's journal: every step of every trial, so that a killed search goes on
``search/best/checkpoint-N/``  the best trial so far, written before the journal says that it ended
``search/trial-…/``            checkpoints and messages (`sbert.retrain.trial`) of a running trial; removed when it ends

`optuna.storages.JournalStorage` writes to any class with two methods. `StudyJournal` keeps the entries in memory and writes
the whole file after each change: a study of a hundred trials has some hundred KiB. One run works on a study at a time.
"""

import contextlib
import hashlib
import itertools
import json
import logging
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Any

from sbert.errors import MissingError, SettingsError, StorageError, TrainingError
from sbert.retrain.tuning_settings import TuningSettings, Value
from sbert.storage.files import base_name, filesystem, join, list_names, read_bytes, strip_protocol, write_bytes
from sbert.storage.retry import try_again

__all__ = [
    "StudyJournal",
    "check_optuna",
    "ended_trials",
    "open_study",
    "remove_folder",
    "remove_left_folders",
    "study_in",
    "trial_folder",
    "try_again_later",
]

log = logging.getLogger(__name__)

STUDY_NAME = "retrain"
TRIAL_PREFIX = "trial-"
GIVEN = "fixed_params"
"""Attribute of a trial in Optuna: the values that were given to it, and not chosen by the sampler."""
KILLED = "killed"
"""Attribute of a study: the numbers of trials that a killed run left."""
WARMUP_TRIALS = 4
"""Trials that are never pruned, and whose settings are chosen at random, before those that learn from others."""


class StudyJournal:
    """Optuna's journal in one file behind a URI."""

    def __init__(self, uri: str) -> None:
        """Read the entries of earlier runs.

        Raises:
            TrainingError: the file is damaged.
        """
        self._uri = uri
        self._lines: list[bytes] = []
        with contextlib.suppress(MissingError):
            self._lines = read_bytes(uri).splitlines(keepends=True)
        self._entries = [self._parsed(number, line) for number, line in enumerate(self._lines, start=1)]

    def _parsed(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            entry = json.loads(line)
            if isinstance(entry, dict):
                return entry
            problem = f"{type(entry).__name__} in place of an object"
        except ValueError as error:
            problem = str(error)
        raise TrainingError(
            f"{self._uri}: the journal of the search is damaged (line {number}: {problem}): remove this file, and the "
            "search begins anew"
        )

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """Return the entries from a number on."""
        return list(self._entries[log_number_from:])

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add entries, and write the file."""
        lines = [f"{json.dumps(entry)}\n".encode() for entry in logs]
        self._lines += lines
        self._entries += [json.loads(line) for line in lines]
        write_bytes(self._uri, b"".join(self._lines))


def check_optuna() -> None:
    """Check that a search can run.

    Raises:
        SettingsError: Optuna is not installed.
    """
    if find_spec("optuna") is None:
        raise SettingsError("a search needs Optuna, which is not installed: pip install 'sbert-prefect[search]'")


def study_in(journal_uri: str | None, name: str, *, seed: int, prune: bool) -> Any:
    """Return the study whose journal is a file, new or as it was left.

    Args:
        journal_uri: the file; None for a study that is kept in memory alone.
        name: of the study.
        seed: of the sampler.
        prune: whether the median rule stops trials.

    Raises:
        SettingsError: Optuna is not installed.
    """
    check_optuna()
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = None if journal_uri is None else StudyJournal(journal_uri)
    num_known = 0 if journal is None else sum(1 for entry in journal.read_logs(0) if "trial_id" not in entry)
    return optuna.create_study(
        storage=None if journal is None else optuna.storages.JournalStorage(journal),
        # Another seed for a study that goes on: the same would choose the settings that were chosen before.
        sampler=optuna.samplers.TPESampler(seed=seed + num_known, n_startup_trials=WARMUP_TRIALS),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=WARMUP_TRIALS) if prune else optuna.pruners.NopPruner(),
        study_name=name,
        direction="maximize",
        load_if_exists=True,
    )


def open_study(search_uri: str, settings: TuningSettings, first: Mapping[str, Value]) -> Any:
    """Return the study of a search, new or as a killed run left it. Its next trial is the one that was running then.

    Args:
        search_uri: folder of the search.
        settings: pruning and seed.
        first: the values of the first trial of a new study.

    Raises:
        SettingsError: Optuna is not installed.
    """
    study = study_in(join(search_uri, "study.jsonl"), STUDY_NAME, seed=settings.seed, prune=settings.prune)
    import optuna

    running = [trial for trial in study.trials if trial.state is optuna.trial.TrialState.RUNNING]
    if running:
        study.set_user_attr(KILLED, [*study.user_attrs.get(KILLED, []), *(trial.number for trial in running)])
    for trial in running:
        try_again_later(study, trial)
    if not study.trials and first:
        study.enqueue_trial(dict(first))
    return study


def try_again_later(study: Any, trial: Any) -> None:
    """End a trial that a killed run left, and let one of the next trials try its values.

    A kill may fall between any two steps: the values are in the queue before the trial ends, and never twice. A trial that
    was killed before all of its values were chosen has those that were given to it.
    """
    from optuna.trial import TrialState

    values = {**trial.system_attrs.get(GIVEN, {}), **trial.params}
    waiting = [other.system_attrs.get(GIVEN) for other in study.trials if other.state is TrialState.WAITING]
    if values not in waiting:
        study.enqueue_trial(values)
    study.tell(trial.number, state=TrialState.FAIL)


def ended_trials(study: Any) -> list[Any]:
    """Return the trials that ended, without the trials of a killed run that a later run began again."""
    killed = set(study.user_attrs.get(KILLED, []))
    return [trial for trial in study.trials if trial.state.is_finished() and trial.number not in killed]


def trial_folder(search_uri: str, values: Mapping[str, Value], taken: Iterable[str] = ()) -> str:
    """Return the folder of a trial: the same for the same values, so that a killed trial goes on.

    Args:
        search_uri: folder of the search.
        values: the values that the trial tries.
        taken: folders of other trials that are running, which may try the same values.
    """
    name = hashlib.sha256(json.dumps(dict(values), sort_keys=True).encode()).hexdigest()[:12]
    folder, others = join(search_uri, TRIAL_PREFIX + name), set(taken)
    return next(
        place
        for number in itertools.count(1)
        if (place := f"{folder}-{number}" if number > 1 else folder) not in others
    )


def remove_folder(uri: str) -> None:
    """Remove the folder of a trial that ended; there may be none. One that cannot be removed is logged."""
    try:
        with contextlib.suppress(FileNotFoundError, MissingError):
            try_again(uri, lambda: filesystem(uri).rm(strip_protocol(uri), recursive=True))
    except StorageError as error:
        log.warning("%s: the checkpoints of a trial that ended could not be removed: %s", uri, error)


def remove_left_folders(search_uri: str, study: Any) -> None:
    """Remove folders of ended trials that a killed run had no time to remove. Trials that wait need theirs."""
    from optuna.trial import TrialState

    names = {name for name in list_names(search_uri) if name.startswith(TRIAL_PREFIX)}
    needed = [
        base_name(trial_folder(search_uri, trial.system_attrs.get(GIVEN, {})))
        for trial in study.trials
        if trial.state is TrialState.WAITING
    ]
    for name in names:
        if not name.startswith(tuple(needed)):
            remove_folder(join(search_uri, name))
