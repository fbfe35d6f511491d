"""Training in processes of its own: killed and resumed, and two at once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.sentence_encoder import SentenceEncoder
from tests.support.toy_training import TEXTS, weights

SCRIPT = """
import os, signal, sys
from sbert.labels.label_kinds import LabelKind
from sbert.training.settings import ContinualSettings, TrainingSettings
from sbert.training.train import train_encoder
from tests.support.toy_training import toy_labels

base, out, checkpoints, die_at = sys.argv[1:5]
def progress(told):
    if told.step == int(die_at):
        os.kill(os.getpid(), signal.SIGKILL)
settings = TrainingSettings(epochs=3, batch_size=16, learning_rate=2e-3, bf16=False, evaluations_per_epoch=2,
                            dropout=float(sys.argv[7]), early_stopping_patience=None, objective=sys.argv[5],
                            continual=ContinualSettings(rehearsal_weight=float(sys.argv[8])))
result = train_encoder(base, toy_labels(LabelKind(sys.argv[6]), dev_share=0.0), settings, out, checkpoints_uri=checkpoints or None,
                       on_progress=progress)
if int(os.environ.get("RANK", "0")) == 0:
    import json
    losses = [[point.step, point.values["loss"]] for point in result.history if "loss" in point.values]
    print(json.dumps({"folder": result.folder, "steps": result.num_steps, "tokens": result.num_tokens, "losses": losses}))
"""


def run_script(folder: Path, *arguments: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script)]
    if processes > 1:
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", str(script)
        ]  # fmt: skip
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path.cwd()),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    return subprocess.run(
        [*command, *arguments], env=environment, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.mark.slow
@pytest.mark.s3
def test_killed_and_resumed_is_bit_equal_to_unkilled(base: str, s3_bucket: str, tmp_path: Path) -> None:
    """SIGKILL in the middle of an epoch; the resumed run works in another folder and only has the object store."""
    whole = run_script(tmp_path, base, str(tmp_path / "whole"), "", "-1", "cosent", "scored_pairs", "0.1", "1")
    assert whole.returncode == 0, whole.stderr[-2000:]
    uri = f"{s3_bucket}/checkpoints"
    killed = run_script(tmp_path, base, str(tmp_path / "killed"), uri, "9", "cosent", "scored_pairs", "0.1", "1")
    assert killed.returncode == -9
    resumed = run_script(tmp_path, base, str(tmp_path / "resumed"), uri, "-1", "cosent", "scored_pairs", "0.1", "1")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    expected, actual = json.loads(whole.stdout), json.loads(resumed.stdout)
    assert actual["losses"] == expected["losses"]
    assert actual["tokens"] < expected["tokens"]  # it did not begin again
    first, second = weights(expected["folder"]), weights(actual["folder"])
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one(base: str, tmp_path: Path) -> None:
    """In-batch negatives come from both processes, so the loss is that of the whole batch; without dropout no chance."""
    one = run_script(tmp_path, base, str(tmp_path / "one"), "", "-1", "ranking", "pairs", "0.0", "0")
    two = run_script(tmp_path, base, str(tmp_path / "two"), "", "-1", "ranking", "pairs", "0.0", "0", processes=2)
    assert one.returncode == 0, one.stderr[-2000:]
    assert two.returncode == 0, two.stderr[-2000:]
    expected, actual = json.loads(one.stdout), json.loads(two.stdout.strip().splitlines()[-1])
    assert len(actual["losses"]) == len(expected["losses"]) > 10
    np.testing.assert_allclose(actual["losses"], expected["losses"], rtol=1e-3, atol=1e-4)
    one_vectors, two_vectors = (
        SentenceEncoder.from_pretrained(each["folder"], device="cpu", compute_dtype=ComputeDtype.FLOAT32).encode(TEXTS)
        for each in (expected, actual)
    )
    np.testing.assert_allclose(one_vectors, two_vectors, atol=2e-3)
