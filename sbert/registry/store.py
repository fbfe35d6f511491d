"""The versions of a model. Each is a folder that is written once.

MODELS_URI/v0002/claim.json     whose folder this is, created first and exclusively
MODELS_URI/v0002/model/         sentence-transformers folder with a Hugging Face model card (README.md)
MODELS_URI/v0002/report.html    the decision, for people
MODELS_URI/v0002/version.json   the same for programs, written last: a folder without it is not a version
MODELS_URI/v0002/approval.json  what a person decided, where one is asked; version.json repeats it
MODELS_URI/v0002/dropped.json   of a refused version: its weights were removed, all other files stay
MODELS_URI/_names/v0002.json    the name was given; it stays when the version's folder is deleted
MODELS_URI/production/          the production log (`sbert.registry.pointer`)
MODELS_URI/_runs/               what retrainings leave (`sbert.retrain.run_records`)
MODELS_URI/_watched/            which labels were announced (`sbert.labels.watch`)
"""

import contextlib
import datetime as dt
import json
import logging
import re
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import ValidationError

from sbert.counted import counted
from sbert.errors import MissingError, RegistryError
from sbert.registry.approval import Approval
from sbert.registry.pointer import (
    DROPPED_NAME,
    MODEL_FOLDER,
    PRODUCTION_FOLDER,
    RECORD_NAME,
    Pointer,
    PointerReason,
    append_pointer,
    production_log,
    read_pointer,
)
from sbert.registry.version_record import VersionRecord
from sbert.storage.conditional_put import create_bytes
from sbert.storage.errors import translate_errors
from sbert.storage.files import (
    delete,
    filesystem,
    join,
    list_names,
    normalize_uri,
    read_bytes,
    strip_protocol,
    write_bytes,
)

__all__ = ["Registry"]

log = logging.getLogger(__name__)

VERSION_NAME = re.compile(r"v(\d{4,})")
CLAIM_NAME = "claim.json"
APPROVAL_NAME = "approval.json"
NAMES_FOLDER = "_names"
FOLDERS_OF_RUNS = frozenset({"_runs", "_watched"})
"""Folders that retrainings leave in a registry before its first version; a table has a folder `_runs` too."""
MAX_CLAIMS = 100
WEIGHTS_ENDING = ".safetensors"


class Registry:
    """A folder of versions, and the production log."""

    def __init__(self, uri: str) -> None:
        """Name the folder. Nothing is read or written yet."""
        self.uri = normalize_uri(uri)

    def check(self, *, may_be_new: bool = False) -> None:
        """Check that there is a registry, or an empty folder where one can begin.

        Args:
            may_be_new: accept a place where no folder is yet, for whoever writes a registry.

        Raises:
            RegistryError: there is no such folder, or it holds other things than a registry.
            StorageError: storage refuses, or has no such bucket.
        """
        there = list_names(self.uri)
        if not there and not may_be_new and ("://" in self.uri or not Path(self.uri).is_dir()):
            raise RegistryError(
                f"{self.uri}: there is no folder or model registry here: check the location; `sbert retrain LABELS "
                f"{self.uri}` makes a registry"
            )
        ours = {name for name in there if VERSION_NAME.fullmatch(name) or name in {NAMES_FOLDER, PRODUCTION_FOLDER}}
        strangers = sorted(there.keys() - ours - FOLDERS_OF_RUNS - {name for name in there if name.startswith(".")})
        if strangers and not ours:
            raise RegistryError(
                f"{self.uri}: this folder is no model registry ({counted(len(strangers), 'other entry', 'other entries')}, "
                f"first: {strangers[0]}): name the folder that `sbert retrain` writes models to"
            )

    def names(self) -> list[str]:
        """Return the names of finished and unfinished versions, oldest first."""
        names = [name for name in list_names(self.uri) if VERSION_NAME.fullmatch(name)]
        return sorted(names, key=lambda name: int(name[1:]))

    def versions(self) -> list[VersionRecord]:
        """Return the finished versions, oldest first."""
        records = []
        for name in self.names():
            with contextlib.suppress(MissingError):
                records.append(self._read(name))
        return records

    def version(self, name: str) -> VersionRecord:
        """Return one version.

        Raises:
            RegistryError: when there is no such version; the message lists the versions there are.
        """
        try:
            if not VERSION_NAME.fullmatch(name):
                raise MissingError(name)
            return self._read(name)
        except MissingError as error:
            names = ", ".join(record.version for record in self.versions()) or "none"
            raise RegistryError(f"{self.uri}: no version {name}; the versions are: {names}") from error

    def _read(self, name: str) -> VersionRecord:
        uri = join(self.uri, name, RECORD_NAME)
        try:
            record = VersionRecord.model_validate_json(read_bytes(uri))
        except ValidationError as error:
            raise RegistryError(f"{uri}: not a version's record: {error.errors()[0]['msg']}") from error
        if record.awaits_approval:  # a process may have been killed between both files
            with contextlib.suppress(MissingError):
                content = read_bytes(self.file_uri(name, APPROVAL_NAME))
                return record.model_copy(update={"approval": Approval.model_validate_json(content)})
        return record

    def record_approval(self, version: str, approval: Approval) -> VersionRecord:
        """Record a person's decision about a version that waits; the first decision counts.

        Returns:
            The version's record with the decision that counts.

        Raises:
            RegistryError: there is no such version, or it does not wait for a person.
        """
        record = self.version(version)
        if not record.awaits_approval:
            state = record.approval.sentence() if record.approval else "accepted" if record.was_accepted else "refused"
            raise RegistryError(f"{self.uri}: {version} does not wait for a decision: it was {state}")
        create_bytes(self.file_uri(version, APPROVAL_NAME), approval.model_dump_json(indent=1).encode())
        decided = self.version(version)
        write_bytes(self.file_uri(version, RECORD_NAME), decided.model_dump_json(indent=1).encode())
        return decided

    def model_uri(self, version: str) -> str:
        """Return the location of a version's model folder."""
        return join(self.uri, version, MODEL_FOLDER)

    def file_uri(self, version: str, name: str) -> str:
        """Return the location of a file beside a version's model."""
        return join(self.uri, version, name)

    def has_weights(self, version: str) -> bool:
        """Return whether a version can be loaded; `drop_refused` removes the weights of old refused versions."""
        return DROPPED_NAME not in list_names(join(self.uri, version))

    def drop_refused(self, keep: int) -> list[str]:
        """Remove the weights of all refused versions but the newest `keep`; return the names of these versions.

        Records, reports and cards stay. A version that was production at any time keeps its weights.
        """
        were_production = {pointer.version for pointer in self.history()}
        refused = [
            record.version
            for record in self.versions()
            if not record.was_accepted and record.version not in were_production
        ]
        dropped = []
        for version in refused[: max(0, len(refused) - keep)]:
            weights = [
                join(folder, name)
                for folder in self._model_folders(version)
                for name in list_names(folder)
                if name.endswith(WEIGHTS_ENDING)
            ]
            if weights:
                # Write the mark first: a version without weights must never look as if it could be loaded.
                create_bytes(self.file_uri(version, DROPPED_NAME), json.dumps({"kept_refused": keep}).encode())
                delete(weights)
                dropped.append(version)
        return dropped

    def _model_folders(self, version: str) -> list[str]:
        folder = self.model_uri(version)
        return [folder, *(join(folder, name) for name, size in list_names(folder).items() if not size)]

    def production(self) -> Pointer | None:
        """Return the newest entry of the production log; None for a registry without one."""
        entries = production_log(self.uri)
        return read_pointer(entries[-1]) if entries else None

    def history(self) -> list[Pointer]:
        """Return the production log, oldest first."""
        return [read_pointer(uri) for uri in production_log(self.uri)]

    def add(
        self,
        record: VersionRecord,
        folder: Path,
        attachments: Callable[[VersionRecord], Mapping[str, bytes]] = lambda _: {},
    ) -> VersionRecord:
        """Store a model as the next version. Earlier versions and production stay as they are.

        Args:
            record: the record; ``version`` and ``created_at`` are filled in here.
            folder: the model, in the format of sentence-transformers.
            attachments: returns files to put beside or into the model, given the record with its name.

        Raises:
            StorageError: when storage refuses.
        """
        name = self._claim(record.run_id)
        record = record.model_copy(
            update={"version": name, "created_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds")}
        )
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self._put(path, join(self.model_uri(name), path.relative_to(folder).as_posix()))
        for relative, content in attachments(record).items():
            uri = self.file_uri(name, relative)
            if not create_bytes(uri, content):
                raise RegistryError(f"{uri}: the file exists already, and a version is written once")
        content = record.model_dump_json(indent=1).encode()
        if not create_bytes(self.file_uri(name, RECORD_NAME), content):
            raise RegistryError(f"{self.uri}: version {name} exists already, and a version is written once")
        log.info("%s: stored %s", self.uri, name)
        return record

    def _claim(self, run_id: str) -> str:
        """Take the next free name. A name is used once, also when its version was never finished, or was deleted."""
        number = 1 + max((int(name[1:]) for name in self._used_names()), default=0)
        content = json.dumps({"run_id": run_id, "token": uuid.uuid4().hex}).encode()
        for candidate in range(number, number + MAX_CLAIMS):
            name = f"v{candidate:04}"
            if create_bytes(self.file_uri(name, CLAIM_NAME), content):
                create_bytes(join(self.uri, NAMES_FOLDER, f"{name}.json"), content)
                return name
        raise RegistryError(f"{self.uri}: {MAX_CLAIMS} other runs took the names from v{number:04} on: run again")

    def _used_names(self) -> set[str]:
        """Return every name that a version has or had: folders, claimed names, and all that the production log names."""
        claimed = {name.removesuffix(".json") for name in list_names(join(self.uri, NAMES_FOLDER))}
        logged = {name for pointer in self.history() for name in (pointer.version, pointer.previous) if name}
        return {name for name in {*self.names(), *claimed, *logged} if VERSION_NAME.fullmatch(name)}

    def _put(self, path: Path, uri: str) -> None:
        with translate_errors(uri):
            filesystem(uri).put_file(str(path), strip_protocol(uri))

    def promote(
        self,
        version: str,
        *,
        current: Pointer | None,
        reason: str,
        run_id: str,
        action: PointerReason = PointerReason.PROMOTION,
    ) -> Pointer:
        """Make a finished version production, provided that `current` is still production.

        Raises:
            RegistryError: when there is no such version, or its weights were removed.
            PromotionConflictError: when production has changed since `current` was read.
        """
        if not self.has_weights(version):
            raise RegistryError(
                f"{self.uri}: {version} was refused and its weights were removed (keep_refused): retrain with --force"
            )
        return append_pointer(
            self.uri,
            current,
            version=version,
            encoder_fingerprint=self.version(version).encoder_fingerprint,
            action=action,
            reason=reason,
            run_id=run_id,
        )

    def rollback(self, version: str | None = None, *, run_id: str = "") -> Pointer:
        """Make an earlier version production again: `version`, or the one before the present.

        Raises:
            RegistryError: when there is nothing to go back to, no such version, or it is production already.
        """
        current = self.production()
        if current is None:
            raise RegistryError(f"{self.uri}: this registry has no production version: run `sbert retrain`")
        target = version or self._before(current)
        if target == current.version:
            raise RegistryError(f"{self.uri}: {target} is production already")
        return self.promote(
            target,
            current=current,
            reason=f"rolled back from {current.version}",
            run_id=run_id or uuid.uuid4().hex,
            action=PointerReason.ROLLBACK,
        )

    def _before(self, current: Pointer) -> str:
        """Return the version that was production before the present one. Each rollback goes one version further back."""
        entries = self.history()
        arrived = current
        while (
            arrived.action is PointerReason.ROLLBACK
        ):  # find when that version was promoted, not when it was rolled back to
            earlier = [
                pointer for pointer in entries if pointer.number < arrived.number and pointer.version == arrived.version
            ]
            if not earlier:
                break
            arrived = earlier[-1]
        if arrived.previous is None:
            raise RegistryError(f"{self.uri}: {current.version} is the first version, so there is no earlier one")
        return arrived.previous
