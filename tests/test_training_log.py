"""What fit_cnn leaves beside and in its model: the CSV log, and what float16 changes."""

import csv
import json

import numpy as np
import pytest
import torch

from featurepipe.cli import main
from featurepipe.commands import fit_cnn
from featurepipe.models import training
from featurepipe.models.cnn import CNNClassifier
from featurepipe.models.persistence import load_model
from featurepipe.models.training_log import write_log

LABELS = ("anger", "fear", "surprise")


def rows_of(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def fit(folder, *options):
    """fit_cnn on 24 faces of noise in three classes, 6 of them to watch."""
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 256, (24, 100, 100), dtype=np.uint8)
    usage = np.array(["PublicTest" if row % 4 == 0 else "Training" for row in range(24)])
    np.savez(folder / "s.npz", images=faces, labels=np.arange(24) % 3, classes=np.array(LABELS), usage=usage)
    (folder / "r.toml").write_text("epochs = 4\nbatch_size = 8\n")
    words = ("fit_cnn", folder / "s.npz", "--arch", "seed_cnn", "--recipe", folder / "r.toml", "--workers", 0)
    return main([str(word) for word in (*words, "--model", folder / "m.safetensors", *options)])


def test_columns_are_those_that_the_epochs_have(tmp_path):
    write_log(tmp_path / "m.log.csv", [{"seconds": 1.5, "epoch": 1, "order": 2, "lr": 0.1, "loss": 1 / 3}])
    assert (tmp_path / "m.log.csv").read_text() == "order,epoch,lr,loss,seconds\n2,1,0.1,0.3333333333333333,1.5\n"


def test_what_stops_the_writing_leaves_the_log_as_it_was(tmp_path, monkeypatch):
    write_log(tmp_path / "m.log.csv", [{"epoch": 1}])
    monkeypatch.setattr("featurepipe.files.os.replace", lambda *names: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_log(tmp_path / "m.log.csv", [{"epoch": 1}, {"epoch": 2}])
    assert [path.name for path in tmp_path.iterdir()] == ["m.log.csv"]
    assert rows_of(tmp_path / "m.log.csv") == [{"epoch": "1"}]


def test_a_resumed_run_has_every_epoch_once(tmp_path, monkeypatch):
    """The checkpoint is of epoch 1 when the run stops after epoch 3, whose row is in the log."""
    monkeypatch.setattr(training, "CHECKPOINT_EVERY", 1e9)

    def stop(path, history):
        write_log(path, history)
        if len(history) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(fit_cnn, "write_log", stop)
    assert fit(tmp_path) == 130
    log = tmp_path / "m.safetensors.log.csv"
    stopped = rows_of(log)
    assert [row["epoch"] for row in stopped] == ["1", "2", "3"]
    monkeypatch.setattr(fit_cnn, "write_log", write_log)
    assert fit(tmp_path, "--resume") == 0
    resumed = rows_of(log)
    assert [row["epoch"] for row in resumed] == ["1", "2", "3", "4"]
    assert [row["loss"] for row in resumed[:3]] == [row["loss"] for row in stopped]
    assert list(resumed[0]) == ["epoch", "lr", "loss", "train_accuracy", "val_accuracy", "seconds"]


class TestHalf:
    def answers(self, folder):
        """Probabilities of the six validation faces by the file."""
        with np.load(folder / "s.npz") as arrays:
            faces = arrays["images"][arrays["usage"] == "PublicTest"]
        return load_model(folder / "m.safetensors").predict_proba(faces)

    def test_says_what_the_file_it_wrote_changes(self, tmp_path, capsys, monkeypatch):
        """The first file written is spoilt: its answers count, beside those of the network with float32 weights."""
        assert fit(tmp_path) == 0
        whole = self.answers(tmp_path)
        save, seen = CNNClassifier.save, []

        def spoil(model, path, *, half):
            save(model, path, half=half)
            if not seen:
                kept = {name: tensor.clone() for name, tensor in model.network_.state_dict().items()}
                *_, last = model.network_.parameters()
                with torch.no_grad():
                    last[0] += 3.0
                save(model, path, half=half)
                seen.append(self.answers(tmp_path))
                model.network_.load_state_dict(kept)

        monkeypatch.setattr(CNNClassifier, "save", spoil)
        capsys.readouterr()
        assert fit(tmp_path, "--half", "--json") == 0
        document = json.loads(capsys.readouterr().out)
        changed = int((whole.argmax(1) != seen[0].argmax(1)).sum())
        assert changed > 0
        assert document["float16"] == {
            "predictions": 6,
            "changed": changed,
            "mean_difference": pytest.approx(np.abs(whole - seen[0]).mean()),
        }
        assert load_model(tmp_path / "m.safetensors").training["float16"] == document["float16"]
        assert 0 < np.abs(self.answers(tmp_path) - whole).max() < 0.01

    def test_says_so_in_words(self, tmp_path, capsys):
        assert fit(tmp_path, "--half") == 0
        assert "of 6 validation predictions differ, mean |difference of probability|" in capsys.readouterr().out

    def test_is_silent_where_weights_stay_float32(self, tmp_path, capsys):
        assert fit(tmp_path) == 0
        assert "float16" not in capsys.readouterr().out
        assert "float16" not in load_model(tmp_path / "m.safetensors").training
