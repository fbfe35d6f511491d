"""Checkpoints in object storage, from which a killed run continues.

A checkpoint counts only when its completion record exists. The record is written last and lists the files of the
checkpoint. Checkpoints lie under the fingerprint of everything that decides the result (base, rows, settings), so that
a run finds only its own.
"""

import contextlib
import hashlib
import json
import logging
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from sbert.errors import MissingError, TrainingError
from sbert.storage.errors import translate_errors
from sbert.storage.files import (
    delete,
    filesystem,
    join,
    list_names,
    read_bytes,
    strip_protocol,
    write_bytes,
)

__all__ = ["CheckpointStore", "run_fingerprint"]

log = logging.getLogger(__name__)

RECORD = "_complete.json"
CHECKPOINT = re.compile(r"^checkpoint-(\d+)$")
STATE = "trainer_state.json"


def run_fingerprint(
    base: str,
    labels: str,
    row_ids: list[str],
    settings: str,
    table_version: int | None,
    num_processes: int,
    prompts: Mapping[str, str],
    made_rows: list[tuple[str, ...]] | None = None,
) -> str:
    """Return 32 hex digits of everything that decides the weights of a run.

    `row_ids` are the train rows, in order; `made_rows` those of a rehearsal, which also follow from Python's documentation.
    """
    parts: list[object] = [base, labels, row_ids, settings, table_version, num_processes]
    if any(prompts.values()):  # encoders without prompts keep the fingerprints, and so the checkpoints, that they have
        parts.append(dict(sorted(prompts.items())))
    if made_rows is not None:
        parts.append(made_rows)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


class CheckpointStore:
    """The checkpoints of one run, in a folder in object storage."""

    def __init__(self, uri: str) -> None:
        """Name the folder. Nothing is read."""
        self.uri = uri

    def steps(self) -> list[int]:
        """Return the steps of complete checkpoints, ascending."""
        steps = [int(match[1]) for name in list_names(self.uri) if (match := CHECKPOINT.match(name))]
        return sorted(step for step in steps if RECORD in list_names(self._folder(step)))

    def upload(self, folder: Path, step: int) -> None:
        """Copy a checkpoint to storage, and its completion record last."""
        place = self._folder(step)
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        fs = filesystem(place)
        for name in files:
            with translate_errors(place):
                fs.put_file(str(folder / name), strip_protocol(join(place, name)))
        write_bytes(join(place, RECORD), json.dumps({"files": files}).encode())

    def keep_only(self, steps: set[int]) -> None:
        """Remove the other checkpoints, completion records first."""
        for step in self.steps():
            if step not in steps:
                self._remove(step)

    def clear(self) -> None:
        """Remove all checkpoints."""
        self.keep_only(set())

    def download(self, folder: Path) -> Path | None:
        """Copy the last checkpoint, and the best one that it names, into a local folder.

        Returns:
            The local folder of the last checkpoint; None when there is no checkpoint.

        Raises:
            TrainingError: when a file of a checkpoint that its record names is missing.
        """
        steps = self.steps()
        if not steps:
            return None
        last = self.fetch(steps[-1], folder)
        state_file = last / STATE
        state = json.loads(state_file.read_text())
        best = state.get("best_model_checkpoint")
        if best:
            # The killed run may have used another local folder.
            number = int(Path(best).name.split("-")[1])
            state["best_model_checkpoint"] = str(self.fetch(number, folder) if number != steps[-1] else last)
            state_file.write_text(json.dumps(state))
        log.info("resuming from checkpoint %d of %s", steps[-1], self.uri)
        return last

    def _folder(self, step: int) -> str:
        return join(self.uri, f"checkpoint-{step}")

    def fetch(self, step: int, folder: Path) -> Path:
        """Copy one checkpoint into a local folder, and return its own folder there.

        Raises:
            TrainingError: when a file that its record names is missing.
        """
        place = self._folder(step)
        target = folder / f"checkpoint-{step}"
        shutil.rmtree(target, ignore_errors=True)
        fs = filesystem(place)
        for name in json.loads(read_bytes(join(place, RECORD)))["files"]:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                with translate_errors(place):
                    fs.get_file(strip_protocol(join(place, name)), str(target / name))
            except MissingError as error:
                raise TrainingError(
                    f"{place}: {name} is missing although the checkpoint was complete: remove the folder to start over"
                ) from error
        return target

    def _remove(self, step: int) -> None:
        place = self._folder(step)
        with contextlib.suppress(MissingError):
            names = json.loads(read_bytes(join(place, RECORD)))["files"]
            delete([join(place, RECORD), *(join(place, name) for name in names)])
