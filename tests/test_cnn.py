"""CNN baselines: counts known from the papers, training that resumes bit for bit, files that load safely."""

import dataclasses
import json
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.utils.validation import check_is_fitted
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from featurepipe import devices
from featurepipe.cli import main
from featurepipe.devices import autocast, resolve_device
from featurepipe.errors import InputError, ModelError
from featurepipe.landmarks import with_landmarks
from featurepipe.models import training
from featurepipe.models.augment import augment, augment_with_landmarks, erase, mix
from featurepipe.models.averaging import to_average, uphill
from featurepipe.models.baselines.registry import BASELINES, get_baseline
from featurepipe.models.cnn import CNNClassifier, load_cnn
from featurepipe.models.persistence import load_model, load_tensors, read_metadata, read_trained_on, save_tensors
from featurepipe.models.training import SHARES, _loss, check_recipe, to_unit
from featurepipe.models.training_recipe import Augmentation, TrainingRecipe, read_recipe
from featurepipe.networks.fer_vgg import FerVGG, views
from featurepipe.networks.photometric import equalise, without_plane
from featurepipe.networks.seed_cnn import SeedCNN


def parameters(network):
    return sum(weights.numel() for weights in network.parameters())


def small(name, **changes):
    """The architecture's recipe, cut down to seconds."""
    recipe = get_baseline(name).recipe
    network = {**recipe.network, **({"width": 0.125} if "width" in recipe.network else {})}
    return dataclasses.replace(recipe, **{"epochs": 2, "batch_size": 8, "network": network, **changes})


def faces_of(name, count=24, seed=0):
    """Noise with a bright band whose height is the class: top, middle or bottom third. Eyes, where asked for, level."""
    rng = np.random.default_rng(seed)
    labels = np.array(["anger", "happiness", "neutral"])[np.arange(count) % 3]
    framing = get_baseline(name).framing
    faces = rng.integers(0, 60, (count, *dataclasses.replace(framing, points=0).shape))
    third = framing.size // 3
    for row, face in enumerate(faces):
        face[row % 3 * third : (row % 3 + 1) * third] += 120
    return np.stack([with_points(face, framing.points, rng) for face in faces.astype(np.uint8)]), labels


def with_points(face, points, rng):
    """The crop with landmarks: the eyes of five in their places, 68 anywhere near the middle."""
    corners = np.array([[0.7, 0.4], [0.6, 0.4], [0.3, 0.4], [0.4, 0.4], [0.5, 0.6]])
    placed = {0: None, 5: corners, 68: rng.uniform(0.2, 0.8, (68, 2))}[points]
    return face if placed is None else with_landmarks(face, placed)


def batch_of(name, count, seed=0):
    """Faces as the networks' functions take them, float (n, c, h, w) in 0..1."""
    return to_unit(faces_of(name, count, seed)[0], torch.device("cpu"))


def lively(name):
    """A network in eval mode whose scores differ from face to face as a trained one's do, which first weights alone do
    not see to: the SVMs of dlsvm start at zero, and batch norm with statistics of no face."""
    torch.manual_seed(0)
    baseline = get_baseline(name)
    network = baseline.build(7, **small(name).network)
    last = [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)][-1]
    torch.nn.init.normal_(last.weight)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        for view in baseline.views(batch_of(name, 12, seed=1), 1):
            network(view)
    return network.eval()


def fitted(name, **changes):
    model = CNNClassifier(name, small(name, **changes), device="cpu")
    return model.fit(*faces_of(name))


class TestNetworks:
    def test_seed_cnn_has_the_papers_layers(self):
        network = SeedCNN(8)
        assert [parameters(layer) for layer in (network.c1, network.c2, network.output)] == [156, 1812, 46472]
        assert parameters(network) == 48_440

    def test_seed_cnn_computes_what_the_toolbox_computes(self):
        """The same function with sigmoids, as DeepLearnToolbox writes it, weights translated by hand."""
        torch.manual_seed(0)
        network, faces = SeedCNN(8).double(), torch.rand(3, 1, 100, 100, dtype=torch.float64)
        with torch.no_grad():
            ours = network(faces)
            c1, c2, out = network.c1, network.c2, network.output
            first = torch.sigmoid(
                torch.nn.functional.conv2d(faces, 4 * c1.weight, c1.bias - 2 * c1.weight.sum((1, 2, 3)))
            )
            s1 = torch.nn.functional.avg_pool2d(first, 2)
            second = torch.sigmoid(
                torch.nn.functional.conv2d(s1, 4 * c2.weight, c2.bias - 2 * c2.weight.sum((1, 2, 3)))
            )
            s2 = torch.nn.functional.avg_pool2d(second, 2).flatten(1)
            toolbox = s2 @ (4 * out.weight).T + out.bias - 2 * out.weight.sum(1)
        torch.testing.assert_close(ours, toolbox, rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize(
        ("name", "classes", "expected"),
        [
            ("mollahosseini_inception", 7, 7_350_503),
            ("sbn_cnn", 6, 5_534_374),
            ("sbn_cnn", 8, 5_535_400),
            ("agrawal_a", 7, 330_151),
            ("agrawal_b", 7, 329_543),
            ("ednn", 6, 4_101_510),
            ("ednn", 7, 4_102_023),
            ("dlsvm", 7, 5_008_295),
            ("dlsvm_paper", 7, 11_945_831),
            ("kc_vgg", 7, 29_890_759),
            ("ferplus_vgg13", 7, 8_756_679),
            ("ferplus_vgg13", 8, 8_757_704),
            ("lopes_cnn", 2, 364_162),
            ("lopes_cnn", 6, 365_190),
            ("lopes_cnn", 7, 365_447),
            ("pacnn", 7, 150_216_061),
            ("gacnn", 7, 209_274_495),
        ],
    )
    def test_parameters_are_those_of_the_paper_or_its_code(self, name, classes, expected):
        """Counts of baselines.md sections 2 to 7 and 10 to 12."""
        baseline = get_baseline(name)
        with torch.device("meta"):
            network = baseline.build(classes, **baseline.recipe.network)
        assert parameters(network) == expected

    @pytest.mark.parametrize(
        ("name", "kind", "sides"),
        [
            ("mollahosseini_inception", torch.nn.MaxPool2d, [12, 6, 6, 6, 3, 3, 1]),
            ("dlsvm", torch.nn.MaxPool2d, [21]),
            ("dlsvm", torch.nn.AvgPool2d, [10, 5]),
            ("dlsvm_paper", torch.nn.AvgPool2d, [11]),
            ("ednn", torch.nn.MaxPool2d, [11, 4, 1]),
            ("kc_vgg", torch.nn.MaxPool2d, [20, 10, 5, 2]),
            ("ferplus_vgg13", torch.nn.MaxPool2d, [32, 16, 8, 4]),
            ("sbn_cnn", torch.nn.MaxPool2d, [24, 12, 6]),
            ("agrawal_a", torch.nn.Conv2d, [64, 32, 32, 16, 16, 8]),
            ("lopes_cnn", torch.nn.Conv2d, [28, 8]),
            ("lopes_cnn", torch.nn.MaxPool2d, [14, 4]),
        ],
    )
    def test_maps_have_the_stated_sides(self, name, kind, sides):
        baseline, seen = get_baseline(name), []
        network = baseline.build(7, **baseline.recipe.network).eval()
        for layer in network.modules():
            if isinstance(layer, kind):
                layer.register_forward_hook(lambda layer, given, maps: seen.append(maps.shape[-1]))
        with torch.inference_mode():
            network(torch.zeros(1, 1, baseline.view, baseline.view))
        assert seen == sides

    @pytest.mark.parametrize(("width", "expected"), [(1.0, 10.82), (0.5, 4.57)])
    def test_fer_vgg_has_the_stated_size(self, width, expected):
        with torch.device("meta"):
            network = FerVGG(7, width)
        assert parameters(network) / 1e6 == pytest.approx(expected, abs=0.05)

    def test_fc7_is_4096_long_and_rectified(self):
        network = FerVGG(7, 0.125).eval()
        with torch.inference_mode():
            fc7 = network.fc7(torch.randn(2, 1, 44, 44))
        assert fc7.shape == (2, 4096)
        assert fc7.min() == 0

    def test_views_are_corners_centre_and_mirrors(self):
        crops = torch.arange(48 * 48, dtype=torch.float32).reshape(1, 1, 48, 48) / (48 * 48)
        ten = views(crops, 10)
        assert len(ten) == 10
        assert [len(views(crops, count)) for count in (1, 2)] == [1, 2]
        torch.testing.assert_close(views(crops, 1)[0], ten[0])
        for plain, mirrored in zip(ten[:5], ten[5:], strict=True):
            torch.testing.assert_close(plain.flip(-1), mirrored)
        for view in ten:
            assert view.mean().abs() < 1e-4


class TestNormalisations:
    def test_equalised_levels_are_shares_of_the_picture(self):
        picture = torch.tensor([[0, 0, 0], [51, 51, 102], [204, 204, 255]]) / 255
        shares = torch.tensor([[1.5, 1.5, 1.5], [4, 4, 5.5], [7, 7, 8.5]]) / 9
        torch.testing.assert_close(equalise(picture[None, None]), shares[None, None])

    def test_equalising_undoes_any_brightness_curve(self):
        picture = torch.randperm(256).view(1, 1, 16, 16) / 255
        torch.testing.assert_close(
            equalise(picture), equalise((picture * 255).sqrt().mul(16).floor().div(255)), atol=0.05, rtol=0
        )
        torch.testing.assert_close(equalise(torch.ones(1, 1, 4, 4)), torch.full((1, 1, 4, 4), 0.5))

    def test_a_plane_leaves_nothing(self):
        rows, columns = torch.meshgrid(torch.arange(5.0), torch.arange(7.0), indexing="ij")
        plane = (2 + 3 * rows - columns)[None, None]
        noise = torch.randn(1, 1, 5, 7)
        assert without_plane(plane).abs().max() < 1e-4
        torch.testing.assert_close(without_plane(noise + plane), without_plane(noise), atol=1e-4, rtol=0)

    def test_equalise_agrees_with_opencv(self):
        """OpenCV counts a pixel's own level whole and stretches to 0..255; the order and the spacing are the same."""
        cv2 = pytest.importorskip("cv2")
        picture = np.random.default_rng(0).integers(40, 200, (48, 48), dtype=np.uint8)
        theirs = torch.from_numpy(cv2.equalizeHist(picture)).float() / 255
        ours = equalise(torch.from_numpy(picture).float()[None, None] / 255)[0, 0]
        assert (ours - theirs).abs().max() < 0.01


class TestLosses:
    def test_squared_hinge_of_a_hand_made_batch(self):
        """Two faces, two classes: margins 1 - 2 = -1, 1 - 0.5, 1 + 1, 1 - 0; C = 2, mean over faces."""
        recipe = TrainingRecipe(epochs=1, batch_size=2, lr=0.1, loss="squared-hinge")
        scores = torch.tensor([[2.0, -0.5], [1.0, 0.0]], requires_grad=True)
        loss = _loss(scores, torch.eye(2), recipe)
        assert loss.item() == pytest.approx(2 * (0 + 0.25 + 4 + 1) / 2)
        loss.backward()
        torch.testing.assert_close(scores.grad, torch.tensor([[0.0, 1.0], [4.0, -2.0]]))

    def test_cross_entropy_against_a_distribution(self):
        """Scores 0 and log 3 are probabilities 1/4 and 3/4; half and half is wanted."""
        recipe = TrainingRecipe(epochs=1, batch_size=2, lr=0.1)
        loss = _loss(torch.tensor([[0.0, np.log(3.0)]]), torch.tensor([[0.5, 0.5]]), recipe)
        assert loss.item() == pytest.approx(-0.5 * np.log(1 / 4) - 0.5 * np.log(3 / 4), rel=1e-6)

    @pytest.mark.parametrize(
        ("schedule", "expected"),
        [
            ("constant", [1, 1, 1]),
            ("one-cycle", [0.04, 0.5 + 0.5 * np.cos(np.pi * 0.375), 0.0]),
            ("polynomial", [1, np.sqrt(0.5), 0]),
            ("step", [1, 1, 0.01]),
        ],
    )
    def test_schedules_at_start_half_and_end(self, schedule, expected):
        recipe = TrainingRecipe(epochs=10, batch_size=2, lr=1.0, schedule=schedule)
        shares = [SHARES[schedule](done, recipe, []) for done in (0.0, 0.5, 1.0)]
        np.testing.assert_allclose(shares, expected, atol=1e-12)

    def test_plateaus_cut_by_a_quarter_after_more_than_five_epochs_without_gain(self):
        rows = [{"loss": 1.0, "val_accuracy": value} for value in [0.5, 0.6] + [0.6] * 6 + [0.7] + [0.1] * 12]
        recipe = TrainingRecipe(epochs=100, batch_size=2, lr=1.0, schedule="plateau")
        shares = [SHARES["plateau"](0.0, recipe, rows[:count]) for count in (0, 7, 8, 9, 15, 21)]
        np.testing.assert_allclose(shares, [1, 1, 0.75, 0.75, 0.75**2, 0.75**3])


class TestAugmentation:
    def test_no_change_is_a_copy(self):
        faces = torch.rand(2, 1, 20, 20)
        assert augment(faces, Augmentation(), 20, torch.Generator()) is faces

    def test_the_view_without_change_is_the_centre(self):
        faces = torch.rand(2, 1, 48, 48)
        centre = augment(faces, Augmentation(), 40, torch.Generator())
        torch.testing.assert_close(centre, faces[..., 4:44, 4:44], atol=1e-4, rtol=0)

    def test_flip_mirrors(self):
        faces = torch.rand(2, 1, 48, 48)
        mirrored = augment(faces, Augmentation(flip=1.0), 40, torch.Generator())
        torch.testing.assert_close(mirrored, faces[..., 4:44, 4:44].flip(-1), atol=1e-4, rtol=0)

    def test_shift_stays_within_its_bound(self):
        """A single bright column moves by at most the shift."""
        faces = torch.zeros(200, 1, 48, 48)
        faces[..., 24] = 1
        moved = augment(faces, Augmentation(shift=3.0), 48, torch.Generator().manual_seed(1))
        columns = moved[:, 0, 20].argmax(1)
        assert columns.min() >= 21
        assert columns.max() <= 27
        assert len(columns.unique()) > 3

    @pytest.mark.parametrize(("size", "view"), [(48, 44), (48, 43)])
    def test_sharp_faces_are_moved_by_whole_pixels(self, size, view):
        faces = torch.rand(40, 1, size, size)
        how = Augmentation(shift=2.0, scale=0.3, rotation=20.0, sharp=1.0)
        moved = augment(faces, how, view, torch.Generator().manual_seed(0))
        pixels = [set(face.flatten().mul(1e4).round().int().tolist()) for face in faces]
        for face, own in zip(moved, pixels, strict=True):
            values = face.flatten().mul(1e4).round().int()
            assert np.mean([bool({v - 1, v, v + 1} & own) for v in values.tolist()]) > 0.99
        assert not torch.equal(moved[0], augment(faces, Augmentation(), view, torch.Generator())[0])

    def test_mixing_blends_images_and_targets_by_the_same_ratio(self):
        """Image i is constant i and its target says i: the mixture must agree with itself."""
        count = 64
        values, targets = torch.arange(float(count)), torch.eye(count)
        images, mixed = mix(values[:, None, None, None].expand(count, 1, 2, 2), targets, 0.5, torch.Generator())
        torch.testing.assert_close(images[:, 0, 0, 0], mixed @ values)
        torch.testing.assert_close(mixed.sum(1), torch.ones(count))
        assert (mixed.argmax(1) == torch.arange(count)).all()
        assert 0.3 < (mixed.max(1).values < 1).float().mean() < 0.7

    @pytest.mark.parametrize(
        ("how", "least", "most"),
        [(Augmentation(rotation=60), 1, 1), (Augmentation(rotation=60, scale=0.25, flip=0.5), 1 / 1.25, 1.25)],
    )
    def test_turned_faces_keep_their_shape_and_scaled_ones_their_bounds(self, how, least, most):
        """All distances between landmarks change by one factor: neither turning nor scaling shears."""
        points = torch.tensor([[0.3, 0.4], [0.7, 0.4], [0.5, 0.8]]).expand(200, 3, 2)
        generator = torch.Generator().manual_seed(0)
        _, placed = augment_with_landmarks(torch.rand(200, 1, 20, 20), points, (1, 0, 2), how, 20, generator)
        factors = torch.stack([torch.pdist(face) for face in placed]).sort(1)[0] / torch.pdist(points[0]).sort()[0]
        torch.testing.assert_close(factors, factors[:, :1].expand(-1, 3), rtol=1e-4, atol=1e-4)
        assert factors.min().item() == pytest.approx(least, rel=0.02)
        assert factors.max().item() == pytest.approx(most, rel=0.02)

    def test_gamma_keeps_the_range(self):
        out = augment(torch.rand(50, 1, 8, 8), Augmentation(gamma=2.0), 8, torch.Generator().manual_seed(0))
        assert out.min() >= 0
        assert out.max() <= 1
        grey = augment(torch.full((200, 1, 8, 8), 0.25), Augmentation(gamma=2.0), 8, torch.Generator().manual_seed(0))
        assert grey.min().item() == pytest.approx(0.25**2, rel=0.05)
        assert grey.max().item() == pytest.approx(0.25**0.5, rel=0.05)

    def test_erase_blanks_a_small_part_of_the_chosen_share(self):
        images = torch.ones(400, 1, 40, 40)
        blanked = erase(images, 0.5, torch.Generator().manual_seed(0))
        share = (blanked == 0).float().mean((1, 2, 3))
        assert 0.4 < (share > 0).float().mean() < 0.6
        assert share.max() < 0.25
        assert images.min() == 1


class TestRecipes:
    def test_a_file_changes_what_it_names(self, tmp_path):
        file = tmp_path / "r.toml"
        file.write_text("epochs = 3\n[augmentation]\nflip = 0.25\n[network]\nwidth = 0.5\n")
        base = get_baseline("fer-vgg").recipe
        recipe = read_recipe(file, base)
        assert (recipe.epochs, recipe.augmentation.flip, recipe.network["width"]) == (3, 0.25, 0.5)
        assert (recipe.lr, recipe.augmentation.shift) == (base.lr, base.augmentation.shift)

    def test_what_ships_names_how_it_was_trained(self):
        """Files that name differences alone say something else once the architecture's own recipe changes."""
        weights = Path(__file__).parent.parent / "weights"
        own = get_baseline("fer-vgg").recipe
        stored = read_metadata(weights / "fer-vgg.safetensors")["training_recipe"]
        assert read_recipe(weights / "fer-vgg.toml", own) == TrainingRecipe.from_document(stored)
        without = {"epochs": 13, "label_smoothing": 0.1, "soft_weight": 0.0}
        assert read_recipe(weights / "fer-vgg-teachers-c.toml", own) == TrainingRecipe.from_document(stored | without)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("epoch = 3", "unknown key epoch"),
            ("[augmentation]\nspin = 1", "unknown key spin"),
            ("lr = -1", "lr"),
            ("schedule = 'none'", "schedule"),
            ("lr = ", "TOML"),
            ("lr = inf", "lr"),
            ("epochs = 'ten'", "epochs = 'ten' is no int"),
            ("epochs = 2.5", "epochs"),
            ("batch_size = 1", "batch_size"),
            ("momentum = true", "momentum"),
            ("augmentation = 3", "expected a table"),
            ("network = 3", "expected a table"),
            ("[network]\ndepth = 3", "unknown key depth"),
            ("[network]\nwidth = 'wide'", "width = 'wide'"),
            ("[augmentation]\ngamma = 0", "gamma"),
            ("[augmentation]\nflip = 2", "flip"),
            ("[augmentation]\nsharp = 1.5", "sharp"),
            ("mixup = 2", "mixup"),
            ("soft_weight = -0.1", "soft_weight"),
        ],
    )
    def test_mistakes_are_named(self, tmp_path, text, said):
        (tmp_path / "r.toml").write_text(text)
        with pytest.raises(InputError, match=said):
            read_recipe(tmp_path / "r.toml", get_baseline("fer-vgg").recipe)

    @pytest.mark.parametrize("name", BASELINES)
    def test_documents_read_back(self, name):
        recipe = get_baseline(name).recipe
        for document in (recipe.document(), recipe.compact()):
            assert TrainingRecipe.from_document(json.loads(json.dumps(document))) == recipe

    def test_compact_documents_hold_what_is_set(self):
        recipe = TrainingRecipe(
            epochs=3, batch_size=8, lr=0.1, mixup=0.0, augmentation=Augmentation(flip=0.5, gamma=1.0)
        )
        assert recipe.compact() == {"epochs": 3, "batch_size": 8, "lr": 0.1, "augmentation": {"flip": 0.5}}
        assert TrainingRecipe(epochs=3, batch_size=8, lr=0.1).compact() == {"epochs": 3, "batch_size": 8, "lr": 0.1}


class TestSharpness:
    def test_the_way_uphill_and_back(self):
        """Gradient (3, 4), of length 5: a step of 1 goes 0.6 and 0.8 along it."""
        network = torch.nn.Sequential(torch.nn.Linear(2, 1, bias=False), torch.nn.BatchNorm1d(1, affine=False))
        network[0].weight.data = torch.tensor([[1.0, 2.0]])
        network[0].weight.grad = torch.tensor([[3.0, 4.0]])
        with uphill(network, 1.0):
            torch.testing.assert_close(network[0].weight.data, torch.tensor([[1.6, 2.8]]))
            network(torch.tensor([[1.0, 0.0], [0.0, 9.0]]))
        assert network[0].weight.tolist() == [[1.0, 2.0]]
        assert network[1].running_mean.item() == network[1].num_batches_tracked.item() == 0

    def test_gradients_are_those_uphill(self):
        """Half the square of a weight has the weight as gradient; at 2, a step of 0.5 uphill, 2.5."""
        network = torch.nn.Linear(1, 1, bias=False)
        network.weight.data.fill_(2.0)

        def descend():
            network.zero_grad()
            (network(torch.ones(1, 1)).square() / 2).sum().backward()

        descend()
        with uphill(network, 0.5):
            descend()
        assert (network.weight.item(), network.weight.grad.item()) == (2.0, 2.5)

    @pytest.mark.parametrize("name", BASELINES)
    def test_what_a_network_keeps_besides_weights_rests(self, name):
        """Statistics of batch norm and centres of classes are moved by looking, and are not of weights uphill."""
        network = BASELINES[name].build(3, **small(name).network).train()
        for weights in network.parameters():
            weights.grad = torch.ones_like(weights)
        before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
        with uphill(network, 0.1):
            for buffer in network.buffers():
                buffer.add_(1)
        for key, tensor in network.state_dict().items():
            torch.testing.assert_close(tensor, before[key], rtol=0, atol=0)

    def test_changes_what_is_learnt_and_still_learns(self):
        plain, flat = (fitted("fer-vgg", sharpness=radius) for radius in (0.0, 0.2))
        faces, labels = faces_of("fer-vgg", seed=1)
        assert np.abs(plain.decision_function(faces) - flat.decision_function(faces)).max() > 1e-3
        model = fitted("fer-vgg", epochs=15, lr=0.05, augmentation=Augmentation(), average=0.0, sharpness=0.05)
        assert (model.predict(faces) == labels).mean() > 0.9


class TestAveraging:
    """One step of one batch, from weights that the seed decides; dropout and augmentation are left out."""

    @staticmethod
    def untrained(recipe):
        baseline, how = get_baseline("fer-vgg"), {"device": torch.device("cpu"), "precision": "fp32", "seed": 0}
        return training.Trainer(baseline, recipe, 3, **how)

    @pytest.fixture
    def trainer(self):
        network = {"width": 0.125, "dropout": 0.0}
        recipe = small("fer-vgg", epochs=1, batch_size=24, lr=0.5, augmentation=Augmentation(), network=network)
        trainer = self.untrained(recipe)
        faces, labels = faces_of("fer-vgg")
        trainer.run(faces, np.unique(labels, return_inverse=True)[1])
        return trainer

    def test_a_young_average_is_mostly_of_the_last_weights(self, trainer):
        before = self.untrained(trainer.recipe).network.fc8.weight
        after, average = trainer.network.fc8.weight, trainer.average.fc8.weight
        assert (after - before).abs().max() > 1e-3
        torch.testing.assert_close(average, 0.25 * before + 0.75 * after)

    def test_its_batch_norm_statistics_are_its_own(self, trainer):
        average, (faces, _) = trainer.average.eval(), faces_of("fer-vgg")
        maps = average.features.conv1_1(views(to_unit(faces, trainer.device), 1)[0])
        torch.testing.assert_close(average.features.norm1_1.running_mean, maps.mean((0, 2, 3)), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(average.features.norm1_1.running_var, maps.var((0, 2, 3)), atol=1e-5, rtol=1e-4)
        assert average.features.norm1_1.momentum == 0.1

    @pytest.mark.parametrize("name", BASELINES)
    def test_all_but_batch_norms_statistics_is_averaged(self, name):
        average, network = (BASELINES[name].build(3, **small(name).network) for _ in range(2))
        averaged = {id(kept) for kept, _ in to_average(average, network)}
        left = [key for key, tensor in average.state_dict(keep_vars=True).items() if id(tensor) not in averaged]
        assert all(key.endswith(("running_mean", "running_var", "num_batches_tracked")) for key in left)


STILLS = [name for name, baseline in BASELINES.items() if baseline.timeline is None]
"""Those of sequences are in test_sequences.py."""


class TestMemory:
    """Where it runs out torch raises a RuntimeError; ours is a MemoryError, whatever was being done."""

    SAID = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"

    @pytest.fixture
    def none_left(self, monkeypatch):
        return lambda where, name: monkeypatch.setattr(where, name, Mock(side_effect=RuntimeError(self.SAID)))

    def test_building(self, none_left):
        none_left(SeedCNN, "to")
        with pytest.raises(MemoryError, match="DefaultCPUAllocator"):
            fitted("seed_cnn")

    def test_training_and_predicting(self, none_left):
        model = fitted("seed_cnn", epochs=1)
        none_left(SeedCNN, "forward")
        for use in (model.fit, model.score):
            with pytest.raises(MemoryError, match="DefaultCPUAllocator"):
                use(*faces_of("seed_cnn"))

    def test_moving_to_the_device(self, none_left):
        model = fitted("seed_cnn", epochs=1)
        none_left(SeedCNN, "to")
        with pytest.raises(MemoryError, match="DefaultCPUAllocator"):
            model.predict(faces_of("seed_cnn")[0])

    def test_opening_a_file_is_no_fault_of_the_file(self, none_left, tmp_path):
        fitted("seed_cnn", epochs=1).save(tmp_path / "m")
        none_left(SeedCNN, "load_state_dict")
        with pytest.raises(MemoryError, match="DefaultCPUAllocator"):
            load_cnn(tmp_path / "m", device="cpu")

    def test_going_on_is_no_fault_of_the_checkpoint(self, none_left, tmp_path):
        model, given = CNNClassifier("seed_cnn", small("seed_cnn"), device="cpu"), faces_of("seed_cnn")
        model.fit(*given, checkpoint=tmp_path / "c")
        none_left(torch, "load")
        with pytest.raises(MemoryError, match="DefaultCPUAllocator"):
            model.fit(*given, checkpoint=tmp_path / "c", resume=True)


@pytest.mark.parametrize("name", STILLS)
class TestEveryArchitecture:
    def test_its_own_way_of_training_lowers_the_loss(self, name):
        recipe = get_baseline(name).recipe
        # Dropout makes the loss of so few faces a matter of luck, which differs from processor to processor.
        network = {**small(name).network, **({"dropout": 0.0} if "dropout" in recipe.network else {})}
        changes = {"epochs": 3, "schedule": "constant", "augmentation": Augmentation(), "network": network}
        model = fitted(name, lr=recipe.lr / 2, **changes)
        losses = [row["loss"] for row in model.training["history"]]
        assert losses[-1] < losses[0]

    def test_a_face_gets_the_same_answer_in_any_company(self, name):
        """Eval mode: neither order nor neighbours matter (baselines.md section 0.2, trap 3)."""
        baseline, network, faces = get_baseline(name), lively(name), batch_of(name, 6)
        with torch.inference_mode():
            together, alone, back = (
                torch.stack([torch.cat([network(view) for view in baseline.views(part, 2)]) for part in parts])
                for parts in ([faces], faces[:, None], [faces.flip(0)])
            )
        count = len(together[0]) // len(faces)
        whole = together[0].view(count, len(faces), 7)
        near = 1e-3 * float(whole.std(1).max())  # of how much faces differ: a network of one answer would fail
        torch.testing.assert_close(alone.view(len(faces), count, 7).transpose(0, 1), whole, rtol=0, atol=near)
        torch.testing.assert_close(back[0].view(count, len(faces), 7).flip(1), whole, rtol=0, atol=near)

    def test_views_are_what_the_network_takes(self, name):
        baseline = get_baseline(name)
        channels = 3 if baseline.framing.mode == "RGB" else 1
        for count in (1, 2, 10):
            given = baseline.views(batch_of(name, 2), count)
            views = [view if isinstance(view, torch.Tensor) else view.view for view in given]
            assert {view.shape for view in views} == {(2, channels, baseline.view, baseline.view)}
            assert len(given) <= count

    def test_it_says_where_it_comes_from(self, name):
        baseline = get_baseline(name)
        assert baseline.source
        assert baseline.fidelity in ("faithful", "near-faithful", "reconstruction")


@pytest.mark.parametrize("name", ["seed_cnn", "fer-vgg"])
class TestClassifier:
    def test_learns(self, name):
        model = fitted(name, epochs=15, lr=0.05, augmentation=Augmentation(), average=0.0)
        faces, labels = faces_of(name, seed=1)
        assert (model.predict(faces) == labels).mean() > 0.9

    def test_same_seed_same_weights(self, name):
        first, second = (fitted(name).decision_function(faces_of(name)[0]) for _ in range(2))
        np.testing.assert_array_equal(first, second)

    @pytest.mark.parametrize(("every", "expected"), [(0, [3]), (1e9, [2, 3])])
    def test_resuming_equals_going_through(self, name, every, expected, tmp_path, monkeypatch):
        """Whether the checkpoint is of the last epoch, or of an earlier one because writing it is slow."""
        monkeypatch.setattr(training, "CHECKPOINT_EVERY", every)
        faces, labels = faces_of(name)
        recipe = small(name, epochs=3)
        whole = CNNClassifier(name, recipe, device="cpu").fit(faces, labels)

        def stop(history):
            if len(history) == 2:
                raise KeyboardInterrupt

        checkpoint = tmp_path / "m.ckpt"
        with pytest.raises(KeyboardInterrupt):
            CNNClassifier(name, recipe, device="cpu").fit(faces, labels, checkpoint=checkpoint, after_epoch=stop)
        seen = []
        resumed = CNNClassifier(name, recipe, device="cpu").fit(
            faces, labels, checkpoint=checkpoint, resume=True, after_epoch=lambda history: seen.append(len(history))
        )
        assert seen == expected
        np.testing.assert_array_equal(whole.decision_function(faces), resumed.decision_function(faces))
        assert [row["loss"] for row in whole.training["history"]] == [
            row["loss"] for row in resumed.training["history"]
        ]

    def test_fine_tuning_starts_where_the_other_model_stopped(self, name, tmp_path):
        (faces, labels), taught = faces_of(name), fitted(name, epochs=15, lr=0.05, average=0.0)
        taught.trained_on = np.array([3, 9])
        barely = small(name, lr=1e-9, average=0.0, augmentation=Augmentation())
        tuned = CNNClassifier(name, barely, device="cpu").fit(
            faces, labels, initial=taught, trained_on=np.array([9, 4]), checkpoint=tmp_path / "m.ckpt"
        )
        anew = CNNClassifier(name, barely, device="cpu").fit(faces, labels)
        first = [model.training["history"][0]["loss"] for model in (tuned, anew)]
        assert first[0] < 0.8 * first[1]
        assert tuned.trained_on.tolist() == [3, 4, 9]
        with pytest.raises(ModelError, match="another recipe"):
            CNNClassifier(name, barely, device="cpu").fit(
                faces, labels, checkpoint=tmp_path / "m.ckpt", resume=True, initial=fitted(name, epochs=2)
            )

    def test_fine_tuning_for_other_classes_renews_the_last_layer(self, name):
        (faces, labels), taught = faces_of(name), fitted(name)
        others = np.where(labels == "anger", "rage", labels)
        barely = small(name, epochs=1, lr=1e-9, average=0.0)
        weights = [
            model.network_.state_dict()
            for model in (
                taught,
                CNNClassifier(name, barely, device="cpu").fit(faces, others, initial=taught),
            )
        ]
        moved = [
            key for key in weights[0] if weights[0][key].ndim > 1 and not torch.allclose(*(w[key] for w in weights))
        ]
        assert len(moved) == 1
        assert weights[0][moved[0]].shape[0] == 3

    def test_one_face_equals_a_batch(self, name):
        model, (faces, _) = fitted(name), faces_of(name)
        alone = np.concatenate([model.decision_function(faces[i : i + 1]) for i in range(len(faces))])
        np.testing.assert_allclose(model.decision_function(faces), alone, rtol=1e-4, atol=1e-5)
        back = model.decision_function(faces[::-1])[::-1]
        np.testing.assert_allclose(model.decision_function(faces), back, rtol=1e-4, atol=1e-5)

    def test_probabilities_agree_with_labels(self, name):
        model, (faces, _) = fitted(name), faces_of(name)
        probabilities = model.predict_proba(faces)
        np.testing.assert_allclose(probabilities.sum(1), 1)
        assert (model.classes_[probabilities.argmax(1)] == model.predict(faces)).all()
        assert model.predict_proba(faces[:0]).shape == (0, 3)

    @pytest.mark.parametrize("half", [False, True])
    def test_a_file_gives_the_model_back(self, name, half, tmp_path):
        model, (faces, _) = fitted(name), faces_of(name)
        model.trained_on = np.array([-5, 7], np.int64)
        model.save(tmp_path / "m.safetensors", half=half)
        loaded = load_model(tmp_path / "m.safetensors")
        assert (loaded.kind, loaded.arch, loaded.labels) == ("cnn", name, ["anger", "happiness", "neutral"])
        tolerance = 0.05 if half else 0
        np.testing.assert_allclose(loaded.decision_function(faces), model.decision_function(faces), atol=tolerance)
        np.testing.assert_array_equal(read_trained_on(tmp_path / "m.safetensors"), [-5, 7])
        assert loaded.training == model.training


class TestSettings:
    def test_a_file_keeps_the_views_that_are_averaged(self, tmp_path):
        """It forgot them, so that model and file answered differently."""
        model, (faces, _) = fitted("fer-vgg"), faces_of("fer-vgg")
        model.views = 10
        model.save(tmp_path / "m")
        loaded = load_model(tmp_path / "m")
        assert loaded.views == 10
        np.testing.assert_array_equal(loaded.decision_function(faces), model.decision_function(faces))

    def test_settings_that_must_fail_later_are_refused_now_and_numpys_seed_is_one(self, tmp_path):
        for setting, said in ((("seed", -1), "seed"), (("seed", None), "seed"), (("seed", 10**18), "seed")):
            with pytest.raises(InputError, match=f"{said} must be a whole number from 0 to 2"):
                CNNClassifier("seed_cnn", **dict([setting]))
        with pytest.raises(InputError, match="unknown precision 'fp16': expected auto or one of fp32, bf16"):
            CNNClassifier("seed_cnn", precision="fp16")
        recipe = small("seed_cnn", epochs=1)
        one, two = (CNNClassifier("seed_cnn", recipe, seed=seed, device="cpu") for seed in (3, np.int64(3)))
        faces, labels = faces_of("seed_cnn")
        expected = one.fit(faces, labels).decision_function(faces)
        two.fit(faces, labels, checkpoint=tmp_path / "c").save(tmp_path / "m")
        np.testing.assert_array_equal(load_model(tmp_path / "m").decision_function(faces), expected)


class TestRefitting:
    def test_one_that_is_interrupted_leaves_the_model_as_it_was(self, tmp_path):
        """The classes were new and the network old: wrong labels, in the file too."""
        (faces, labels), model = faces_of("seed_cnn"), fitted("seed_cnn")
        expected, training = model.predict(faces), model.training

        def stop(history):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            model.fit(faces, np.where(labels == "anger", "rage", labels), trained_on=[3], after_epoch=stop)
        model.save(tmp_path / "m")
        for own in (model, load_cnn(tmp_path / "m", device="cpu")):
            np.testing.assert_array_equal(own.predict(faces), expected)
            assert (own.labels, own.training, own.trained_on.tolist()) == (sorted(set(labels)), training, [])

    def test_one_from_its_own_weights_renews_the_last_layer_for_other_classes(self):
        (faces, labels), model = faces_of("seed_cnn"), fitted("seed_cnn")
        before, model.recipe_ = model.network_, small("seed_cnn", epochs=1, lr=1e-9)
        after = model.fit(faces, np.where(labels == "anger", "rage", labels), initial=model).network_
        torch.testing.assert_close(after.c1.weight, before.c1.weight)
        assert not torch.allclose(after.output.weight, before.output.weight)
        with pytest.raises(NotFittedError, match="call fit first"):
            model.fit(faces, labels, initial=clone(model))


class TestInScikitLearn:
    def test_a_clone_has_the_very_settings_and_is_not_fitted(self):
        changes = {"epochs": 1, "batch_size": 8}
        for recipe in (None, small("seed_cnn"), changes):
            model = CNNClassifier("seed_cnn", recipe, seed=3, device="cpu", precision="auto")
            assert model.get_params()["recipe"] is recipe
            assert clone(model).get_params() == model.get_params()
        assert model.get_params()["views"] is None
        model.fit(*faces_of("seed_cnn"))
        check_is_fitted(model)
        with pytest.raises(NotFittedError):
            check_is_fitted(clone(model))
        assert (repr(model), repr(clone(model))) == (
            "CNNClassifier('seed_cnn', fitted on 24 faces)",
            "CNNClassifier('seed_cnn', not fitted)",
        )

    def test_it_is_cross_validated_searched_scored_and_shown(self):
        faces, labels = faces_of("seed_cnn")
        groups = np.arange(24) // 6
        model = CNNClassifier("seed_cnn", small("seed_cnn"), device="cpu")
        scores = cross_val_score(model, faces, labels, groups=groups, cv=GroupKFold(2), error_score="raise")
        fold = next(GroupKFold(2).split(faces, labels, groups))
        alone = clone(model).fit(faces[fold[0]], labels[fold[0]])
        assert scores[0] == (alone.predict(faces[fold[1]]) == labels[fold[1]]).mean()
        grid = {"recipe": [{"epochs": 1, "batch_size": 8}, {"epochs": 2, "batch_size": 8}]}
        search = GridSearchCV(model, grid, cv=GroupKFold(2), error_score="raise").fit(faces, labels, groups=groups)
        assert len(search.best_estimator_.training["history"]) == search.best_params_["recipe"]["epochs"]
        shown = ConfusionMatrixDisplay.from_estimator(alone, faces, labels)
        assert shown.confusion_matrix.trace() == 24 * alone.score(faces, labels)

    def test_other_settings_take_another_fit_or_none(self):
        faces, model = faces_of("seed_cnn")[0], fitted("seed_cnn")
        expected = model.predict(faces)
        for wrong in ({"views": 3}, {"recipe": {"epoch": 3}}, {"arch": "resnet"}, {"lr": 0.1, "seed": 1}):
            with pytest.raises(InputError):
                model.set_params(**wrong)
        assert model.set_params(views=1, precision="fp32") is model
        np.testing.assert_array_equal(model.predict(faces), expected)
        with pytest.raises(NotFittedError):
            model.set_params(recipe={"epochs": 3}).predict(faces)
        assert model.training_recipe.epochs == 3


class TestArguments:
    def test_a_mapping_as_recipe_is_what_a_file_is(self, tmp_path):
        (tmp_path / "r.toml").write_text("epochs = 3\n[augmentation]\nflip = 0.25\n[network]\nhead = 'softmax'\n")
        changes = {"epochs": 3, "augmentation": {"flip": 0.25}, "network": {"head": "softmax"}}
        model = CNNClassifier("seed_cnn", changes)
        assert model.training_recipe == read_recipe(tmp_path / "r.toml", get_baseline("seed_cnn").recipe)
        assert model.training_recipe.loss == "cross-entropy"
        with pytest.raises(InputError, match="unknown key epoch"):
            CNNClassifier("seed_cnn", {"epoch": 3})
        with pytest.raises(InputError, match=r"expected a table of values, got 'r\.toml'"):
            CNNClassifier("seed_cnn", "r.toml")

    def test_a_checkpoint_is_named_by_text_too(self, tmp_path):
        faces, labels = faces_of("seed_cnn")
        fit = CNNClassifier("seed_cnn", small("seed_cnn", epochs=1), device="cpu").fit
        history = fit(faces, labels, checkpoint=str(tmp_path / "m.ckpt")).training["history"]
        again = fit(faces, labels, checkpoint=str(tmp_path / "m.ckpt"), resume=True).training["history"]
        assert again == history  # the seconds too: nothing was trained anew

    def test_faces_may_be_a_list_or_a_tensor(self):
        faces, labels = faces_of("seed_cnn")
        model = CNNClassifier("seed_cnn", small("seed_cnn"), device="cpu").fit(list(faces), labels.tolist())
        expected = fitted("seed_cnn").decision_function(faces)
        for given in (faces, list(faces), torch.from_numpy(faces)):
            np.testing.assert_array_equal(model.decision_function(given), expected)
        for wrong in ([*faces[:3], faces[0, :50]], torch.zeros(1, 100, 100, requires_grad=True)):
            with pytest.raises(InputError, match=r"takes uint8 faces .* no array can be made"):
                model.predict(wrong)

    @pytest.mark.parametrize(("there", "same"), [(True, "bf16"), (False, "fp32")])
    def test_precision_auto_is_what_the_device_multiplies_in(self, there, same, tmp_path, monkeypatch):
        monkeypatch.setattr(devices, "has_bf16", lambda device: there)
        (faces, labels), recipe = faces_of("seed_cnn"), small("seed_cnn")
        models = [CNNClassifier("seed_cnn", recipe, device="cpu", precision=word) for word in ("auto", same)]
        for model in models:
            model.fit(faces, labels, checkpoint=tmp_path / "m.ckpt", resume=True)
        auto, named = (model.fit(faces, labels).decision_function(faces) for model in models)
        np.testing.assert_array_equal(auto, named)


class TestDevices:
    def test_fp32_on_cuda_is_not_tf32(self):
        """PyTorch's own default would round fp32 convolutions to 10 bits there; the setting needs no GPU."""
        before = torch.backends.cudnn.allow_tf32
        with autocast(torch.device("cuda"), "fp32"):
            assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.allow_tf32 is before

    def test_training_asks_for_no_float64_where_there_is_none(self, monkeypatch):
        """Apple's MPS has none: as there, and every tensor that is made on the way is looked at."""
        seen = set()

        class Watching(TorchDispatchMode):
            def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
                result = operation(*args, **(kwargs or {}))
                seen.update(tensor.dtype for tensor in tree_leaves(result) if isinstance(tensor, torch.Tensor))
                return result

        monkeypatch.setattr(training, "widest_float", lambda device: torch.float32)
        with Watching():
            model = fitted("fer-vgg", mixup=0.5)
        assert torch.float32 in seen
        assert torch.float64 not in seen
        assert 0 <= model.training["kept"]["train_accuracy"] <= 1

    def test_training_on_the_cpu_leaves_gpus_alone(self, monkeypatch):
        asked = []
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: asked.append(device) or torch.zeros(1))
        monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: None)
        fitted("seed_cnn", epochs=1)
        assert asked == []

    def test_training_leaves_the_programs_own_draws_as_they_were(self):
        torch.manual_seed(7)
        expected = torch.rand(3)
        torch.manual_seed(7)
        fitted("seed_cnn", epochs=1)
        torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)

    @pytest.mark.parametrize("name", ["tpu", "cpu:x", "cuda:99", "cpu:3", ""])
    def test_what_is_not_there_is_refused(self, name):
        with pytest.raises(InputError, match="device"):
            resolve_device(name)


class TestRefusals:
    def test_checkpoints_of_another_run(self, tmp_path):
        faces, labels = faces_of("seed_cnn")
        checkpoint = tmp_path / "m.ckpt"
        CNNClassifier("seed_cnn", small("seed_cnn"), device="cpu").fit(faces, labels, checkpoint=checkpoint)
        same = CNNClassifier("seed_cnn", small("seed_cnn"), device="cpu")
        other = CNNClassifier("seed_cnn", small("seed_cnn", lr=0.2), device="cpu")
        reseeded = CNNClassifier("seed_cnn", small("seed_cnn"), seed=1, device="cpu")
        soft = {"soft_labels": np.full((24, 3), 1 / 3)}
        for model, given, named, more in (
            *((other, faces, labels, {}), (reseeded, faces, labels, {}), (same, faces, labels, soft)),
            *((same, faces[::-1], labels, {}), (same, faces, labels[::-1], {})),
        ):
            with pytest.raises(ModelError, match="other data, another recipe"):
                model.fit(given, named, checkpoint=checkpoint, resume=True, **more)

    @pytest.mark.parametrize(
        ("changes", "part"), [({"patience": 1}, True), ({"schedule": "plateau"}, True), ({}, False)]
    )
    def test_checkpoints_chosen_on_other_validation_faces(self, changes, part, tmp_path):
        """Where nothing is decided by them they may change, or be left out."""
        faces, labels = faces_of("seed_cnn")
        fit = partial(
            CNNClassifier("seed_cnn", small("seed_cnn", **changes), device="cpu").fit,
            *(faces, labels),
            checkpoint=tmp_path / "m.ckpt",
        )
        one, two = (faces_of("seed_cnn", 6, seed) for seed in (1, 2))
        fit(validation=one)
        fit(validation=one, resume=True)
        for other in (two, (one[0], one[1][::-1]), None):
            with pytest.raises(ModelError, match="other data") if part else nullcontext():
                fit(validation=other, resume=True)

    @pytest.mark.parametrize("content", [torch.zeros(3), [1, 2], {}])
    def test_checkpoints_that_hold_something_else(self, content, tmp_path):
        torch.save(content, tmp_path / "m.ckpt")
        with pytest.raises(ModelError, match="delete it to start anew"):
            CNNClassifier("seed_cnn", small("seed_cnn"), device="cpu").fit(
                *faces_of("seed_cnn"), checkpoint=tmp_path / "m.ckpt", resume=True
            )

    def test_damaged_checkpoints(self, tmp_path):
        faces, labels = faces_of("seed_cnn")
        (tmp_path / "m.ckpt").write_bytes(b"not a checkpoint")
        with pytest.raises(ModelError, match="delete it"):
            CNNClassifier("seed_cnn", small("seed_cnn"), device="cpu").fit(
                faces, labels, checkpoint=tmp_path / "m.ckpt", resume=True
            )

    def test_fine_tuning_across_architectures(self):
        faces, labels = faces_of("seed_cnn")
        with pytest.raises(InputError, match="same architecture"):
            CNNClassifier("seed_cnn", small("seed_cnn"), device="cpu").fit(faces, labels, initial=fitted("fer-vgg"))

    def test_faces_of_another_shape(self):
        with pytest.raises(InputError, match=r"100, 100"):
            CNNClassifier("seed_cnn").fit(np.zeros((4, 48, 48), np.uint8), ["a", "b", "a", "b"])

    def test_a_single_class(self):
        with pytest.raises(InputError, match="two classes"):
            CNNClassifier("seed_cnn").fit(np.zeros((4, 100, 100), np.uint8), ["anger"] * 4)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda labels: labels[:-1], r"24 .*faces, labels of shape \(23,\)"),
            (lambda labels: [*labels, "anger"], r"labels of shape \(25,\)"),
            (lambda labels: labels[:, None], r"labels of shape \(24, 1\)"),
            (lambda labels: np.where(labels == "anger", None, labels.astype(object)), "8 of them no text"),
            (lambda labels: [float("nan"), *labels[1:]], "1 of them no text, such as nan"),
            (lambda labels: np.arange(len(labels)) % 3, "24 of them no text"),
        ],
    )
    def test_labels_that_are_not_one_per_face(self, change, said):
        """More of them than faces, and None, NaN or numbers as names of classes, were trained on without a word."""
        faces, labels = faces_of("seed_cnn")
        model = CNNClassifier("seed_cnn", small("seed_cnn"), device="cpu")
        with pytest.raises(InputError, match=said):
            model.fit(faces, change(labels))
        with pytest.raises(InputError, match=said):
            model.fit(faces, labels, validation=(faces, change(labels)))

    @pytest.mark.parametrize("wrong", [lambda faces: faces / 255, lambda faces: faces[:, :50]])
    def test_validation_faces_of_another_kind(self, wrong):
        faces, labels = faces_of("seed_cnn")
        with pytest.raises(InputError, match="takes uint8 faces"):
            CNNClassifier("seed_cnn", small("seed_cnn"), device="cpu").fit(
                faces, labels, validation=(wrong(faces), labels)
            )

    @pytest.mark.parametrize("views", [0, 3])
    def test_other_numbers_of_views(self, views):
        with pytest.raises(InputError, match=f"{views} views .* expected 1, 2 or 10"):
            CNNClassifier("fer-vgg", views=views)

    def test_fewer_faces_than_a_batch(self):
        faces, labels = faces_of("seed_cnn", 4)
        with pytest.raises(InputError, match="batch"):
            CNNClassifier("seed_cnn", small("seed_cnn"), device="cpu").fit(faces, labels)

    def test_unknown_architecture_lists_the_known(self):
        with pytest.raises(InputError, match="seed_cnn, fer-vgg"):
            get_baseline("resnet")

    def test_divergence_is_said(self):
        with pytest.raises(ModelError, match="diverged"):
            fitted("fer-vgg", lr=1e30, epochs=3)

    def test_divergence_in_the_very_last_step_is_said(self, monkeypatch):
        """Its loss is that before the step: only the weights tell."""
        update, steps = training.Trainer._update, []

        def spoil(trainer, before):
            update(trainer, before)
            steps.append(1)
            if len(steps) == 6:
                with torch.no_grad():
                    next(trainer.result.parameters()).fill_(torch.nan)

        monkeypatch.setattr(training.Trainer, "_update", spoil)
        with pytest.raises(ModelError, match="diverged in epoch 2"):
            fitted("seed_cnn", epochs=2)
        assert len(steps) == 6

    def test_weights_too_large_for_float16(self, tmp_path):
        model = fitted("seed_cnn", epochs=1)
        with torch.no_grad():
            model.network_.c1.weight[0] = 70000.0
        with pytest.raises(InputError, match=r"not written.* beyond 65504"):
            model.save(tmp_path / "m.safetensors", half=True)
        assert not list(tmp_path.iterdir())
        model.save(tmp_path / "m.safetensors")

    @pytest.mark.parametrize(
        ("name", "changes", "said"),
        [
            ("fer-vgg", {"network": {"width": 0.125, "dropout": 7}}, "dropout probability has to be between 0 and 1"),
            ("fer-vgg", {"network": {"width": 0, "dropout": 0.5}}, "a layer without units"),
            ("fer-vgg", {"network": {"width": 1e300, "dropout": 0.5}}, "cannot be built"),
            ("seed_cnn", {"norm_l1": 1e-4}, "no batch norm of maps"),
            ("dlsvm", {"norm_l1": 1e-4}, "no batch norm of maps"),
            ("seed_cnn", {"augmentation": Augmentation(eyes=0.1)}, "does not align faces"),
            ("pacnn", {"mixup": 0.5}, "pacnn takes landmarks too, which mixup cannot blend"),
            ("gacnn", {"mixup": 0.5}, "gacnn takes landmarks too, which mixup cannot blend"),
            (
                "seed_cnn",
                {"label_smoothing": 0.1},
                "label_smoothing = 0.1 has no effect but with loss = 'cross-entropy'",
            ),
            ("ednn", {"momentum": 0.9}, "momentum = 0.9 has no effect but with optimiser = 'sgd'"),
            ("ednn", {"early_momentum": 0.0}, "early_momentum = 0.0 has no effect but with optimiser"),
            ("ednn", {"nesterov": False}, "nesterov = False has no effect but with optimiser"),
            ("seed_cnn", {"warmup": 0.4}, "warmup = 0.4 has no effect but with schedule = 'one-cycle'"),
        ],
    )
    def test_recipes_that_do_not_fit_their_architecture(self, name, changes, said):
        with pytest.raises(InputError, match=said):
            check_recipe(small(name, **changes), get_baseline(name))
        with pytest.raises(InputError, match=said):
            fitted(name, **changes)

    def test_models_fitted_with_values_without_effect_open(self, tmp_path):
        fitted("seed_cnn", epochs=1).save(tmp_path / "m")
        tensors, document = load_tensors(tmp_path / "m", "pt")
        document["training_recipe"]["label_smoothing"] = 0.1
        save_tensors(tmp_path / "m", tensors, document)
        assert load_cnn(tmp_path / "m").training_recipe.label_smoothing == 0.1

    @pytest.mark.parametrize("name", BASELINES)
    def test_mixup_is_refused_where_the_network_takes_more_than_pixels(self, name):
        baseline = get_baseline(name)
        faces = torch.zeros(2, 3 if baseline.framing.mode == "RGB" else baseline.frames, *baseline.framing.shape[:2])
        inputs = baseline.training_inputs(faces, Augmentation(), torch.Generator())
        assert baseline.blends is isinstance(inputs, torch.Tensor)

    def test_such_recipes_are_refused_before_source_is_read(self, tmp_path, capsys):
        (tmp_path / "r.toml").write_text("[network]\ndropout = 7\n")
        words = ("fit_cnn", tmp_path / "gone", "--arch", "fer-vgg", "--model", tmp_path / "m")
        assert main([*map(str, words), "--recipe", str(tmp_path / "r.toml")]) == 2
        assert "fer-vgg cannot be built with" in capsys.readouterr().err

    @pytest.mark.parametrize("name", BASELINES)
    def test_every_architectures_own_recipe_fits_it(self, name):
        check_recipe(get_baseline(name).recipe, get_baseline(name))

    @pytest.mark.parametrize(
        "path", sorted((Path(__file__).parent.parent / "weights").glob("*.toml")), ids=lambda path: path.name
    )
    def test_every_recipe_that_ships_fits_its_architecture(self, path):
        baseline = get_baseline("fer-vgg")
        check_recipe(read_recipe(path, baseline.recipe), baseline)

    @pytest.mark.parametrize(("width", "classes", "said"), [(2, 3, "fc6.weight is"), (0.125, 9000, "fc8.bias is")])
    def test_a_network_of_another_size_is_not_built(self, width, classes, said, tmp_path, monkeypatch):
        """The size is the file's to say: at width 60 the weights would take 100 GiB."""
        model, built = fitted("fer-vgg", epochs=1), []
        model.recipe_.network["width"] = width
        model.classes_ = np.array([f"{number:04d}" for number in range(classes)])
        model.save(tmp_path / "m.safetensors")

        def build(*sizes, **named):
            built.append(torch.empty(0).device.type)
            return FerVGG(*sizes, **named)

        monkeypatch.setitem(BASELINES, "fer-vgg", dataclasses.replace(BASELINES["fer-vgg"], build=build))
        with pytest.raises(ModelError, match=said):
            load_cnn(tmp_path / "m.safetensors")
        assert built == ["meta"]

    @pytest.mark.parametrize("recipe", [[], 3, {"epochs": 1}, {"epochs": 1, "batch_size": 1, "lr": 1, "network": [1]}])
    def test_documents_of_another_shape(self, recipe, tmp_path):
        document = {"kind": "cnn", "arch": "seed_cnn", "labels": ["a", "b"], "seed": 0, "recipe": {}, "training": {}}
        tensors = {"trained_on": torch.zeros(0, dtype=torch.int64)}
        save_tensors(tmp_path / "bad.safetensors", tensors, {**document, "training_recipe": recipe})
        with pytest.raises(ModelError, match="not a whole CNN model"):
            load_cnn(tmp_path / "bad.safetensors")

    @pytest.mark.parametrize(
        "change",
        [{"recipe": {"features": 3}}, {"recipe": []}, {"training": []}, {"labels": "ab"}, {"labels": ["b", "a", "c"]}],
    )
    def test_descriptions_of_another_shape(self, change, tmp_path):
        model = fitted("seed_cnn", epochs=1)
        model.save(tmp_path / "m.safetensors")
        tensors, document = load_tensors(tmp_path / "m.safetensors", "pt")
        save_tensors(tmp_path / "bad.safetensors", tensors, document | change)
        with pytest.raises(ModelError, match="not a whole CNN model"):
            load_cnn(tmp_path / "bad.safetensors")

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_weights_that_are_no_numbers(self, value, tmp_path):
        fitted("seed_cnn", epochs=1).save(tmp_path / "m.safetensors")
        tensors, document = load_tensors(tmp_path / "m.safetensors", "pt")
        tensors["network.c1.bias"][0] = value
        save_tensors(tmp_path / "bad.safetensors", tensors, document)
        with pytest.raises(ModelError, match=r"not a whole CNN model.*c1\.bias holds numbers that are not finite"):
            load_cnn(tmp_path / "bad.safetensors")

    def test_tensors_of_another_network(self, tmp_path):
        model = fitted("seed_cnn")
        model.save(tmp_path / "m.safetensors")
        document = {"kind": "cnn", "arch": "seed_cnn", "labels": ["a", "b"], "seed": 0, "recipe": {}, "training": {}}
        document["training_recipe"] = small("seed_cnn").document()
        tensors = {"network.c1.weight": torch.zeros(1), "trained_on": torch.zeros(0, dtype=torch.int64)}
        save_tensors(tmp_path / "bad.safetensors", tensors, document)
        with pytest.raises(ModelError, match="not a whole CNN model"):
            load_cnn(tmp_path / "bad.safetensors")


def test_what_is_not_fitted_says_so(tmp_path):
    model = CNNClassifier("seed_cnn")
    with pytest.raises(NotFittedError, match="call fit first"):
        model.predict(np.zeros((1, *model.baseline.shape), np.uint8))
    with pytest.raises(NotFittedError, match="call fit first"):
        model.save(tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())
