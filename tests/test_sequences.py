"""Sequences: which frames are taken, what networks of sequences compute, and the way from files to predictions."""

import csv
import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest
import torch

from featurepipe.cli import main
from featurepipe.commands.sequences import whole_sequences
from featurepipe.datasets.protocols import get_protocol
from featurepipe.datasets.readers import read_source
from featurepipe.datasets.synthetic import write_sequences
from featurepipe.errors import InputError
from featurepipe.features.sequences import sequences_in
from featurepipe.features.table import Features
from featurepipe.models.augment import augment
from featurepipe.models.baselines.kim_cnn_lstm import KimCNNLSTM, _continuity, _spread
from featurepipe.models.baselines.registry import BASELINES, get_baseline
from featurepipe.models.baselines.stc_nlstm import STCNLSTM
from featurepipe.models.cnn import CNNClassifier
from featurepipe.models.persistence import load_model
from featurepipe.models.training_recipe import Augmentation
from featurepipe.timelines import five_states, peak_of, to_peak

NETWORKS = [name for name, baseline in BASELINES.items() if baseline.timeline]
LEARNT = {"kim_cnn_lstm": 3, "stc_nlstm": 12}
"""Epochs after which a network knows where the band of `sequences_of` is."""
EMOTIONS = ["anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise"]
MMI = ["neutral"] * 3 + ["onset"] * 4 + ["apex"] * 3 + ["offset"] * 4 + ["neutral"] * 2


class TestTimelines:
    @pytest.mark.parametrize(
        ("roles", "peak"),
        [
            (["neutral", "frame", "apex", "apex", "apex"], 4),  # CK+, Oulu-CASIA: the last frame
            (MMI, 8),  # the middle of the apex frames 7 to 9
            (["apex"] * 6, 5),  # GEMEP-FERA
            ([None] * 4, 3),
            (["apex", None], 0),
        ],
    )
    def test_the_peak_is_the_last_frame_or_the_middle_of_the_apex(self, roles, peak):
        assert peak_of(roles) == peak

    def test_frames_to_the_peak_are_evenly_spaced_and_end_there(self):
        assert to_peak([None] * 31, 16) == list(range(0, 31, 2))
        assert to_peak(MMI, 5) == [0, 2, 4, 6, 8]
        assert to_peak([None] * 3, 5) == [0, 0, 1, 2, 2]
        assert to_peak([None], 3) == [0, 0, 0]

    def test_states_follow_the_phases(self):
        assert five_states(MMI) == [3, 5, 8, 10, 13]
        assert five_states(["neutral", *["frame"] * 3, *["apex"] * 3, *["frame"] * 4]) == [0, 2, 5, 7, 10]

    def test_absent_states_repeat_the_peak(self):
        assert five_states(["neutral", "frame", "frame", "apex", "apex"]) == [0, 2, 4, 4, 4]
        assert five_states([None, None]) == [0, 0, 1, 1, 1]


def samples_table(*rows):
    """FeatureTable.samples() of rows (subject, sequence, frame, label, role, status)."""
    names = ("subject", "sequence", "frame", "label", "role", "status")
    columns = {name: [row[at] for row in rows] for at, name in enumerate(names)}
    for name in ("raw_label", "split", "extra"):
        columns[name] = [None] * len(rows)
    columns["path"] = [f"{row}.png" for row in range(len(rows))]
    columns["content"] = [f"{row:064x}" for row in range(len(rows))]
    columns["error"] = ["" if row[5] == "ok" else "no face was found" for row in rows]
    types = {"frame": pa.int64()}
    return pa.table({name: pa.array(column, types.get(name, pa.string())) for name, column in columns.items()})


def crops_of(samples):
    """A crop filled with its sample's row for each sample that is ok."""
    rows = np.flatnonzero(np.array(samples["status"].to_pylist()) == "ok")
    names = ("path", "content", "label", "subject", "split", "sequence", "role", "frame")
    columns = {name: np.array(samples[name].to_pylist(), object)[rows] for name in names}
    return Features(
        X=np.repeat(rows.astype(np.uint8), 4).reshape(-1, 2, 2),
        **columns,
        origin=np.full(len(rows), None),
        sample=rows,
        face=np.zeros(len(rows), int),
        box=np.repeat(rows, 4).reshape(-1, 4),
        score=rows / 100,
        turn=np.zeros(len(rows), int),
        coverage={},
        feature_half={},
        face_half={},
    )


class TestGathering:
    def test_frames_are_put_in_order_and_named_by_person_and_sequence(self):
        samples = samples_table(
            ("A", "1", 10, "fear", None, "ok"),
            ("B", "1", 1, "anger", None, "ok"),
            ("A", "1", 2, "neutral", None, "ok"),
            ("A", None, None, "fear", None, "ok"),
            ("B", "1", 2, "anger", None, "ok"),
            ("A", "1", 9, None, None, "ok"),
            ("A", "2", 1, "fear", None, "ok"),
            (None, "film", None, "fear", "still", "ok"),
        )
        sequences = sequences_in(samples)
        assert sequences.rows == [[2, 5, 0], [1, 4]]
        assert sequences.peak.tolist() == [0, 4]
        assert sequences.samples["label"].to_pylist() == ["fear", "anger"]
        assert sequences.samples["path"].to_pylist() == ["0.png", "4.png"]
        assert sequences.left_out == 3

    @pytest.mark.parametrize(
        ("labels", "whole"),
        [
            (["neutral", "fear", "fear"], "fear"),
            (["neutral", None, "fear"], "fear"),
            (["neutral", "neutral"], "neutral"),
            (["neutral", None, None], None),  # MMI's codes without a known meaning
            ([None, None], None),
        ],
    )
    def test_a_sequence_shows_its_one_emotion(self, labels, whole):
        rows = [("A", "1", number, label, None, "ok") for number, label in enumerate(labels)]
        assert sequences_in(samples_table(*rows)).samples["label"].to_pylist() == [whole]

    def test_two_emotions_or_splits_are_refused(self):
        rows = [("A", "s1", number, label, None, "ok") for number, label in enumerate(["anger", "fear"])]
        with pytest.raises(InputError, match="sequence s1 differ in their label"):
            sequences_in(samples_table(*rows))
        table = samples_table(*[("A", "s1", number, "fear", None, "ok") for number in range(2)])
        parted = table.set_column(table.column_names.index("split"), "split", pa.array(["train", "test"]))
        with pytest.raises(InputError, match=r"split \(test, train\)"):
            sequences_in(parted)

    def test_frames_without_a_face_are_passed_over(self):
        frames = [("A", "1", number, "fear", None, "no_face" if number in (0, 3) else "ok") for number in range(5)]
        blind = [("B", "1", number, "anger", None, "no_face") for number in range(2)]
        samples = samples_table(*frames, *blind)
        sequences = sequences_in(samples)
        taken = sequences.features(crops_of(samples), lambda roles: to_peak(roles, 4))
        assert taken.X[:, :, 0, 0].tolist() == [[1, 2, 2, 4]]  # of the frames 1, 2, 4
        assert taken.box[0].tolist() == [4] * 4
        assert (taken.sample.tolist(), taken.label.tolist()) == ([0], ["fear"])
        assert sequences.samples["status"].to_pylist() == ["ok", "no_face"]
        assert taken.coverage == {"ok": 1, "no_face": 1}

    def test_the_peak_is_a_frame_that_shows_a_face(self):
        roles = ["neutral", "apex", "apex", "apex", "offset"]
        lost = [("A", "1", 10 * at, "fear", role, "no_face" if at == 2 else "ok") for at, role in enumerate(roles)]
        ends = [("B", "1", at, "fear", None, "ok" if at < 2 else "missing") for at in range(4)]
        samples = samples_table(*lost, *ends)
        sequences = sequences_in(samples)
        taken = sequences.features(crops_of(samples), five_states)
        assert sequences.peak.tolist() == taken.box[:, 0].tolist() == [3, 6]
        assert sequences.samples["path"].to_pylist() == taken.path.tolist() == ["3.png", "6.png"]
        assert sequences.samples["frame"].to_pylist() == [30, 1]

    def test_no_face_at_all_is_an_empty_matrix(self):
        samples = samples_table(*[("A", "1", number, "fear", None, "no_face") for number in range(2)])
        taken = sequences_in(samples).features(crops_of(samples), five_states)
        assert taken.X.shape == (0, 5, 2, 2)
        assert len(taken) == 0

    def test_a_sequence_is_known_by_all_its_frames(self):
        rows = [("A", "1", number, "fear", None, "ok") for number in range(3)]
        one, other = (sequences_in(samples_table(*own)).samples["content"].to_pylist()[0] for own in (rows, rows[:2]))
        assert len({one, other}) == 2
        assert len(one) == 64


def table_of(samples):
    """FeatureTable.samples() as it would be, had every frame a face."""
    names = ("subject", "sequence", "frame", "label", "role")
    return samples_table(*((*(getattr(sample, name) for name in names), "ok") for sample in samples))


class TestDatabases:
    """Copies of databases as tests/trees_sequences.py makes them, with the numbers of their official sheets."""

    @pytest.mark.parametrize(
        ("database", "sequence", "label", "states"),
        [
            ("ckplus", "S005_001", "disgust", [1, 6, 11, 11, 11]),
            ("oulu-casia", "P002_Fear_VL_Strong", "fear", [0, 2, 4, 4, 4]),
            ("casme2", "sub01_EP02_01f", "happiness", [46, 52, 59, 72, 86]),
            ("casme2", "sub04_EP12_01f", "disgust", [261, 291, 321, 321, 321]),
            ("mmi", "1841/S035-004", "happiness", [4, 6, 9, 12, 15]),
            ("mmi", "1842/S035-005", "anger", [1, 5, 10, 15, 20]),
            ("mmi", "1843/S036-001", None, [1, 5, 10, 15, 20]),
            ("gemep-fera", "train_002", "fear", [1, 3, 6, 6, 6]),
        ],
    )
    def test_states_are_the_databases_own(self, database, sequence, label, states, tmp_path):
        pytest.importorskip("av")
        pytest.importorskip("openpyxl")
        pytest.importorskip("defusedxml")
        import trees_sequences

        trees_sequences.TREES[database](tmp_path)
        samples = read_source(str(tmp_path), database, "all").samples
        sequences = sequences_in(table_of(samples))
        at = sequences.samples["sequence"].to_pylist().index(sequence)
        own = [samples[row] for row in sequences.rows[at]]
        assert sequences.samples["label"].to_pylist()[at] == label
        assert [own[place].frame for place in five_states([sample.role for sample in own])] == states

    def test_protocols_of_apex_frames_keep_whole_sequences(self, tmp_path):
        pytest.importorskip("av")
        import trees_sequences

        source = read_source(str(trees_sequences.ckplus(tmp_path)), "ckplus", "all")
        protocol = get_protocol("ck_si10_7")
        taken = protocol.apply(source, "CK+")
        whole = whole_sequences(taken, source, protocol)
        assert (len(taken.samples), len(whole.samples)) == (9, 11 + 14 + 6)
        assert sequences_in(table_of(whole.samples)).samples["label"].to_pylist() == ["disgust", "surprise", "contempt"]
        for name in ("ck_si10_8", "ck_seed_random"):
            with pytest.raises(InputError, match=rf"{name} is of single photos .*\(ck_si10_7, .*oulu_si10, mmi_si10"):
                whole_sequences(taken, source, get_protocol(name))


def small(name, **changes):
    recipe = get_baseline(name).recipe
    network = {**recipe.network, **({"width": 0.125} if "width" in recipe.network else {})}
    return dataclasses.replace(recipe, **{"epochs": 2, "batch_size": 8, "network": network, **changes})


def sequences_of(name, count=24, seed=0):
    """Noise, in which a bright band grows from frame to frame: at the top, in the middle or at the bottom."""
    rng = np.random.default_rng(seed)
    frames, size, _ = get_baseline(name).shape
    X = rng.integers(0, 60, (count, frames, size, size))
    third = size // 3
    for row in range(count):
        rise = np.linspace(0, 120, frames).astype(int)
        X[row, :, row % 3 * third : (row % 3 + 1) * third] += rise[:, None, None]
    return X.astype(np.uint8), np.array(["anger", "fear", "surprise"])[np.arange(count) % 3]


class TestNetworks:
    @pytest.mark.parametrize(
        ("name", "classes", "expected"),
        [
            ("kim_cnn_lstm", 5, 11_678_223),
            ("kim_cnn_lstm", 6, 11_679_761),
            ("stc_nlstm", 6, 7_481_350),
            ("stc_nlstm", 7, 7_481_607),
        ],
    )
    def test_parameters_are_those_of_the_reconstruction(self, name, classes, expected):
        """Counts of baselines.md sections 8.3 and 9.2."""
        baseline = get_baseline(name)
        with torch.device("meta"):
            network = baseline.build(classes, **baseline.recipe.network)
        assert sum(weights.numel() for weights in network.parameters()) == expected
        assert baseline.fidelity == "reconstruction"

    def test_stc_keeps_the_length_while_maps_shrink(self):
        network, seen = STCNLSTM(6, width=0.125).eval(), []
        for layer in [*network.layers, *network.over_time]:
            layer.register_forward_hook(
                lambda layer, given, out: seen.append(given[0].shape[1:] if isinstance(out, tuple) else out.shape[2:])
            )
        with torch.inference_mode():
            network(torch.rand(2, 16, 64, 64))
        assert seen[::2] == [(16, side, side) for side in (64, 32, 16, 8, 4)]
        assert seen[1::2] == [(16, width) for width in (8, 16, 32, 32, 32)]

    def test_stc_has_the_stated_parts(self):
        with torch.device("meta"):
            network = STCNLSTM(6)
        parts = (network.layers, network.over_time, network.over_layers)
        counts = [sum(weights.numel() for weights in part.parameters()) for part in parts]
        assert counts == [4_649_472, 2_304_000, 526_336]

    @pytest.mark.parametrize("name", NETWORKS)
    def test_a_sequence_gets_the_same_answer_in_any_company(self, name):
        model, (X, _) = fitted(name, epochs=1), sequences_of(name, 5)
        X[3] = X[3][[0, 0, 1, 1, 1] if name == "kim_cnn_lstm" else [0] * 8 + [15] * 8]  # a short one among them
        alone = np.concatenate([model.decision_function(X[row : row + 1]) for row in range(len(X))])
        near = 1e-3 * alone.std(0).max()  # of how much sequences differ: a network of one answer would fail
        np.testing.assert_allclose(model.decision_function(X), alone, rtol=0, atol=near)
        np.testing.assert_allclose(model.decision_function(X[::-1])[::-1], alone, rtol=0, atol=near)

    @pytest.mark.parametrize("padded", [[0, 1, 2, 2, 2], [0, 0, 1, 2, 2], [0, 1, 1, 1, 2], [0, 1, 2, 3, 3]])
    def test_a_padded_sequence_gives_the_same_answer_as_alone(self, padded):
        """kim_cnn_lstm passes over states that a sequence lacks, wherever they are; any other frame counts."""
        torch.manual_seed(0)
        network, frames = KimCNNLSTM(6).eval(), torch.rand(3, 4, 64, 64)
        with torch.inference_mode():
            alone = network(frames[:, : max(padded) + 1])
            torch.testing.assert_close(network(frames[:, padded]), alone, rtol=1e-4, atol=1e-5)
            other = network(frames[:, [*padded[:-1], 0]])
        assert (other - alone).abs().max() > 1e-3

    @pytest.mark.parametrize("name", NETWORKS)
    def test_views_are_the_sequence_and_its_mirror_freed_of_light(self, name):
        baseline = get_baseline(name)
        frames = torch.rand(2, *baseline.shape)
        plain, mirrored = baseline.views(frames, 2)
        torch.testing.assert_close(plain.flip(-1), mirrored)
        torch.testing.assert_close(baseline.views(frames / 3 + 0.2, 1)[0], plain, atol=0.02, rtol=0)
        one_frame_brighter = frames.clone()
        one_frame_brighter[:, 0] += 1  # frames stay comparable: they are not standardised one by one
        assert (baseline.normalise(one_frame_brighter) - plain)[:, 0].mean() > 1

    def test_all_frames_of_a_sequence_are_moved_alike(self):
        """So a repeated frame stays one, to the last bit."""
        still = torch.rand(6, 1, 64, 64).expand(6, 5, 64, 64).contiguous()
        how = Augmentation(flip=0.5, rotation=10.0, shift=3.0, scale=0.1, gamma=1.5)
        moved = augment(still, how, 64, torch.Generator().manual_seed(0))
        assert (moved[:, 1:] == moved[:, :-1]).all()
        assert (moved != still).any()


class TestTerms:
    """The five terms of kim_cnn_lstm (baselines.md 8.2)."""

    def test_continuity_by_hand(self):
        """Unit features at 0, 60 and 90 degrees: squared distances 1 and 2, so 1 + 1 - 2; turned round 1 + 2 - 1."""
        steps = torch.tensor([[1.0, 0.0], [0.5, 3**0.5 / 2], [0.0, 5.0], [0.0, 0.0], [0.0, 0.0]])
        turned = steps[[0, 2, 1, 3, 4]]
        assert _continuity(steps[None], torch.tensor([3])).item() == pytest.approx(0, abs=1e-6)
        assert _continuity(turned[None], torch.tensor([3])).item() == pytest.approx(2, abs=1e-6)
        both = torch.stack([steps, turned, turned])
        assert _continuity(both, torch.tensor([3, 3, 2])).item() == pytest.approx(1, abs=1e-6)
        assert _continuity(both, torch.tensor([2, 1, 2])).item() == 0

    def test_spread_by_hand(self):
        """Of class 0 the features 2 and 4 around the centre 1: (1 + 9) / 2 / 2; the centre moves by 0.5 * 4 / 3."""
        centres = torch.tensor([[1.0], [7.0]])
        spread = _spread(torch.tensor([[2.0], [4.0]]), centres, torch.tensor([0, 0]))
        assert spread.item() == pytest.approx(2.5)
        torch.testing.assert_close(centres, torch.tensor([[1 + 0.5 * 4 / 3], [7.0]]))

    def test_each_term_can_be_left_out(self):
        names = ("expression", "expression_spread", "state", "state_spread", "continuity")
        frames, wanted = torch.rand(4, 5, 64, 64), torch.tensor([0, 1, 2, 0])
        values = []
        for weights in [*np.eye(5).tolist(), [1.0] * 5, [0.0] * 5]:
            torch.manual_seed(0)
            network = KimCNNLSTM(3, **dict(zip(names, weights, strict=True))).train()
            network(frames)
            values.append(network.terms(wanted).item())
        assert all(value > 0 for value in values[:5])
        assert values[5] == pytest.approx(sum(values[:5]), rel=1e-5)
        assert values[6] == 0

    def test_the_cnn_learns_from_the_terms_alone(self):
        torch.manual_seed(0)
        network = KimCNNLSTM(3).train()
        scores = network(torch.rand(2, 5, 64, 64))
        scores.sum().backward(retain_graph=True)
        assert all(weights.grad is None for weights in network.features.parameters())
        assert network.lstm.weight_ih_l0.grad.abs().max() > 0
        network.terms(torch.tensor([0, 1])).backward()
        assert all(weights.grad.abs().max() > 0 for weights in network.features.parameters() if weights.ndim > 1)

    def test_states_that_are_absent_have_no_part(self):
        """Three frames and the same three padded to five give the same terms."""
        frames, values = torch.rand(2, 3, 64, 64), []
        for taken in ([0, 1, 2], [0, 1, 2, 2, 2]):
            torch.manual_seed(0)
            network = KimCNNLSTM(3).train()
            network(frames[:, taken])
            values.append(network.terms(torch.tensor([0, 1])).item())
        assert values[0] == pytest.approx(values[1], rel=1e-5)


def fitted(name, count=8, **changes):
    return CNNClassifier(name, small(name, **changes), device="cpu").fit(*sequences_of(name, count))


@pytest.mark.parametrize("name", NETWORKS)
class TestClassifier:
    def test_learns_and_its_file_gives_it_back(self, name, tmp_path):
        model = fitted(name, 24, epochs=LEARNT[name], augmentation=Augmentation())
        X, labels = sequences_of(name, seed=1)
        assert (model.predict(X) == labels).mean() > 0.9
        np.testing.assert_allclose(model.predict_proba(X).sum(1), 1)
        model.save(tmp_path / "m.safetensors")
        loaded = load_model(tmp_path / "m.safetensors")
        assert (loaded.arch, loaded.labels) == (name, ["anger", "fear", "surprise"])
        np.testing.assert_array_equal(loaded.decision_function(X), model.decision_function(X))

    def test_resuming_equals_going_through(self, name, tmp_path):
        X, labels = sequences_of(name, 8)
        whole = fitted(name)

        def stop(history):
            raise KeyboardInterrupt

        first, second = (CNNClassifier(name, small(name), device="cpu") for _ in range(2))
        with pytest.raises(KeyboardInterrupt):
            first.fit(X, labels, checkpoint=tmp_path / "m.ckpt", after_epoch=stop)
        second.fit(X, labels, checkpoint=tmp_path / "m.ckpt", resume=True)
        np.testing.assert_array_equal(whole.decision_function(X), second.decision_function(X))

    def test_fine_tuning_for_other_classes_renews_what_is_per_class(self, name):
        (X, labels), taught = sequences_of(name, 8), fitted(name, epochs=1)
        others = np.where(labels == "anger", "contempt", np.where(np.arange(len(labels)) % 4 == 0, "disgust", labels))
        barely = small(name, epochs=1, lr=1e-9, weight_decay=0.0)
        tuned = CNNClassifier(name, barely, device="cpu").fit(X, others, initial=taught)
        before, after = taught.network_.state_dict(), tuned.network_.state_dict()
        assert len(tuned.labels) == 4
        for key, weights in before.items():
            if weights.shape == after[key].shape and "running" not in key and "tracked" not in key:
                torch.testing.assert_close(after[key], weights, rtol=1e-4, atol=1e-6)
        assert {after[key].shape[0] for key in after if after[key].shape != before[key].shape} == {4}

    def test_fine_tuning_may_weigh_its_losses_otherwise(self, name):
        (X, labels), taught = sequences_of(name, 8), fitted(name, epochs=1)
        weights = {key: 0.0 for key in taught.training_recipe.network if key in ("continuity", "state_spread")}
        recipe = small(name, epochs=1, lr=1e-9)
        other = dataclasses.replace(recipe, network=recipe.network | weights)
        tuned = CNNClassifier(name, other, device="cpu").fit(X, labels, initial=taught)
        assert tuned.training_recipe.network == recipe.network | weights

    def test_single_faces_are_refused(self, name):
        with pytest.raises(InputError, match=r"takes uint8 faces of shape \(n, (5|16), 64, 64\)"):
            CNNClassifier(name).fit(np.zeros((4, 64, 64), np.uint8), ["a", "b", "a", "b"])


# --- files and commands -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    """Rendered sequences: 3 subjects x 7 emotions x 4 frames, with samples.csv; not to be changed."""
    folder = tmp_path_factory.mktemp("filmed")
    write_sequences(folder, subjects=3, frames=4, size=(160, 160))
    return folder


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def run(*words):
    return main([str(word) for word in words])


class TestRendered:
    def test_samples_tell_sequence_and_frame(self, filmed):
        rows = rows_of(filmed / "samples.csv")
        assert list(rows[0]) == ["path", "label", "subject", "sequence", "frame"]
        assert len(rows) == 3 * 7 * 4
        assert [row["frame"] for row in rows[:4]] == ["1", "2", "3", "4"]
        assert [row["label"] for row in rows[:4]] == ["neutral", "anger", "anger", "anger"]
        assert {row["sequence"] for row in rows if row["subject"] == "subject-001"} == {
            f"subject-001-{emotion}-0" for emotion in EMOTIONS
        }
        assert all((filmed / row["path"]).is_file() for row in rows)

    def test_a_second_call_writes_nothing_and_mends_what_is_lost(self, tmp_path):
        words = {"subjects": 1, "frames": 2, "size": (48, 48), "seed": 3}
        paths = write_sequences(tmp_path, **words)
        content = {path: path.read_bytes() for path in paths}
        stamps = {path: path.stat().st_mtime_ns for path in [*paths, tmp_path / "samples.csv"]}
        assert write_sequences(tmp_path, **words) == paths
        assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
        paths[1].write_bytes(b"no picture")
        write_sequences(tmp_path, **words)
        assert {path: path.read_bytes() for path in paths} == content
        assert write_sequences(tmp_path, **(words | {"frames": 3}))[0].read_bytes() != content[paths[0]]

    def test_the_command_and_what_it_refuses(self, tmp_path, capsys):
        words = ("render", tmp_path / "r", "--subjects", 1, "--size", 32)
        assert run(*words, "--sequences", 2, "--json") == 0
        assert json.loads(capsys.readouterr().out)["photos"] == 14
        with pytest.raises(SystemExit):
            run(*words, "--sequences", 1)
        with pytest.raises(InputError, match="2 frames"):
            write_sequences(tmp_path, subjects=1, frames=1)


@pytest.fixture(scope="module")
def taught(filmed, tmp_path_factory):
    """kim_cnn_lstm after one epoch on the rendered sequences, and the table of their crops."""
    folder = tmp_path_factory.mktemp("taught")
    (folder / "r.toml").write_text("epochs = 1\nbatch_size = 4\n")
    model, table = folder / "kim.safetensors", folder / "table"
    words = ("--arch", "kim_cnn_lstm", "--recipe", folder / "r.toml", "--model", model, "--table", table)
    assert run("fit_cnn", filmed / "samples.csv", *words, "--workers", 0) == 0
    return model, table


class TestCommands:
    def test_fitting_takes_whole_sequences(self, taught):
        model = load_model(taught[0])
        assert model.labels == EMOTIONS
        assert model.training["samples"] == dict.fromkeys(EMOTIONS, 3)

    def test_classify_writes_a_row_per_sequence(self, filmed, taught, tmp_path, capsys):
        rows = rows_of(filmed / "samples.csv")
        shortened = [row for row in rows if not (row["sequence"] == "subject-000-anger-0" and int(row["frame"]) > 1)]
        lines = [",".join([str(filmed / row["path"]), *list(row.values())[1:]]) for row in shortened]
        (tmp_path / "s.csv").write_text("\n".join(["path,label,subject,sequence,frame", *lines]))
        out, (model, table) = tmp_path / "out", taught
        capsys.readouterr()
        words = ("classify", tmp_path / "s.csv", "--model", model, "--out", out, "--table", table, "--workers", 0)
        assert run(*words, "--pictures", "--json") == 0
        said = capsys.readouterr()
        assert "1 photos of" in said.err
        assert "in no sequence of two frames or more: left out" in said.err
        document = json.loads(said.out)
        predicted = rows_of(out / "predictions.csv")
        assert len(predicted) == 20
        assert {row["frame"] for row in predicted} == {"4"}
        assert [row["truth"] in row["sequence"] for row in predicted] == [True] * 20
        assert {row["status"] for row in predicted} == {"ok"}
        assert document["scores"]["all"]["photos"] == 20
        assert document["scores"]["leak"] == 20
        assert len(list((out / "pictures").iterdir())) == 20

    def test_photos_without_sequences_are_refused(self, rendered, taught, tmp_path, capsys):
        source = rendered / "samples.csv"
        asked = ("fit_cnn", source, "--arch", "stc_nlstm", "--model", tmp_path / "m", "--workers", 0)
        assert run(*asked) == 2
        assert "holds no sequences of two frames or more" in capsys.readouterr().err
        assert run("classify", source, "--model", taught[0], "--out", tmp_path / "o", "--workers", 0) == 2
        assert "columns sequence and frame" in capsys.readouterr().err

    def test_compare_sets_sequences_beside_their_peaks(self, filmed, taught, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr("featurepipe.commands.compare.write_report", lambda *arguments: None)
        (tmp_path / "r.toml").write_text("batch_size = 4\nepochs = 1\n[network]\nstate = 0.0\n")
        words = ("compare", filmed / "samples.csv", "--methods", "kim_cnn_lstm", "svm:hog", "--out", tmp_path / "c")
        words += ("--recipe", f"kim_cnn_lstm={tmp_path / 'r.toml'}")
        capsys.readouterr()
        assert run(*words, "--table", taught[1], "--folds", 3, "--workers", 0, "--json") == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["photos"], document["unit"], document["classes"]) == (21, "sequences", EMOTIONS)
        assert document["protocol"] == "3 folds of subjects"
        for row in document["methods"].values():
            assert (row["coverage"], row["all"]["photos"]) == (1.0, 21)
        trained = document["methods"]["kim_cnn_lstm"]["recipe"]["training"]
        assert (trained["epochs"], trained["batch_size"], trained["network"]["state"]) == (1, 4, 0.0)
        folds = json.loads((tmp_path / "c" / "folds.json").read_text(encoding="utf-8"))
        assert len(folds["samples"]) == 21

    def test_the_list_says_how_many_frames(self, capsys):
        assert run("fit_cnn", "--list") == 0
        said = capsys.readouterr().out
        assert "stc_nlstm: 7,481,607 parameters, 16 frames of 64x64 pixels, reconstruction" in said
        assert "78.61 % MMI" in said
