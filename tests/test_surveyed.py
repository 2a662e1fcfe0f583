"""What single surveyed systems do besides their layers: alignment, patches, the best of several orders, heads."""

import dataclasses
import importlib.util

import numpy as np
import pytest
import torch
from command_helpers import run

from featurepipe.datasets.synthetic import Identity, render_face
from featurepipe.devices import autocast
from featurepipe.errors import InputError
from featurepipe.landmarks import MIRROR_68, split_landmarks, with_landmarks
from featurepipe.models.augment import augment_with_landmarks
from featurepipe.models.baselines.acnn import ACNN, Face, patch_points, patches, view_pixels
from featurepipe.models.baselines.lopes_cnn import Steps, aligned, eye_centres, moved_eyes
from featurepipe.models.baselines.registry import BASELINES, get_baseline
from featurepipe.models.cnn import CNNClassifier, load_cnn
from featurepipe.models.training import Trainer
from featurepipe.models.training_recipe import Augmentation, TrainingRecipe, read_recipe
from featurepipe.networks.photometric import local_contrast


def coordinates(size):
    """An image (1, 2, size, size) whose two channels are x and y in shares of its side."""
    middles = (torch.arange(size) + 0.5) / size
    return torch.stack([middles.expand(size, size), middles[:, None].expand(size, size)])[None]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class TestLopesPreprocessing:
    def test_eye_centres_lie_between_the_corners(self):
        points = torch.tensor([[[0.8, 0.4], [0.6, 0.2], [0.1, 0.3], [0.3, 0.5], [0.5, 0.9]]])
        torch.testing.assert_close(eye_centres(points), torch.tensor([[[0.2, 0.4], [0.7, 0.3]]]))

    def test_the_crop_is_cut_by_the_distance_between_the_eyes(self):
        """Eyes 0.2 apart, a = 0.1: 0.24 wide around their middle; from 0.13 above them to 0.32 below (figure 5)."""
        eyes = torch.tensor([[[0.4, 0.5], [0.6, 0.5]]])
        cut = aligned(coordinates(200), eyes)[0]
        assert cut.shape == (2, 32, 32)
        column, row = 0.24 / 32, 0.45 / 32
        torch.testing.assert_close(cut[0, 5], 0.38 + column * (torch.arange(32) + 0.5), atol=1e-4, rtol=0)
        torch.testing.assert_close(cut[1, :, 5], 0.37 + row * (torch.arange(32) + 0.5), atol=1e-4, rtol=0)

    def test_a_larger_crop_has_the_same_middle(self):
        """Half as large again: 0.36 wide, 0.675 high, its middle 0.095 below the eyes as before."""
        cut = aligned(coordinates(200), torch.tensor([[[0.4, 0.4], [0.6, 0.4]]]), Steps(crop_scale=1.5))[0]
        middle = (torch.arange(32) + 0.5) / 32 - 0.5
        torch.testing.assert_close(cut[0, 5], 0.5 + 0.36 * middle, atol=1e-4, rtol=0)
        torch.testing.assert_close(cut[1, :, 5], 0.495 + 0.675 * middle, atol=1e-4, rtol=0)

    def test_a_turned_face_comes_out_level(self):
        """The same crop of a pattern and of the pattern turned by 30 degrees about the point between the eyes."""
        angle = torch.tensor(np.radians(30.0), dtype=torch.float32)
        direction = torch.stack([angle.cos(), angle.sin()])
        eyes = torch.tensor([0.5, 0.45]) + 0.08 * torch.stack([-direction, direction])
        cut = aligned(coordinates(300), eyes[None])[0]
        across, down = direction, torch.stack([-direction[1], direction[0]])
        u, v = (torch.arange(32) + 0.5) / 32, (torch.arange(32) + 0.5) / 32
        x = 0.08 * 2.4 * (u - 0.5)
        y = 0.08 * (4.5 * v - 1.3)
        expected = (
            torch.tensor([0.5, 0.45])[:, None, None]
            + across[:, None, None] * x[None, None]
            + down[:, None, None] * y[None, :, None]
        )
        torch.testing.assert_close(cut, expected, atol=1e-4, rtol=0)

    def test_without_the_turn_the_crop_is_cut_as_wide_along_the_pictures_own_sides(self):
        """Eyes 0.2 apart on a slope of 4 to 3, a = 0.1: the same lengths as where they are level."""
        eyes = torch.tensor([[[0.44, 0.42], [0.56, 0.58]]])
        cut = aligned(coordinates(200), eyes, Steps(align=False))[0]
        column, row = 0.24 / 32, 0.45 / 32
        middle = torch.arange(32) + 0.5
        torch.testing.assert_close(cut[0], (0.38 + column * middle).expand(32, 32), atol=1e-4, rtol=0)
        torch.testing.assert_close(cut[1], (0.37 + row * middle)[:, None].expand(32, 32), atol=1e-4, rtol=0)

    def test_without_the_crop_the_whole_face_is_turned_about_its_centre(self):
        """Eyes one above the other: a quarter turn, wherever they are and however far apart."""
        eyes = torch.tensor([[[0.3, 0.2], [0.3, 0.5]]])
        cut = aligned(coordinates(96), eyes, Steps(crop=False))[0]
        middle = (torch.arange(32) + 0.5) / 32
        torch.testing.assert_close(cut[1], middle.expand(32, 32), atol=1e-4, rtol=0)
        torch.testing.assert_close(cut[0], 1 - middle[:, None].expand(32, 32), atol=1e-4, rtol=0)

    def test_without_either_every_pixel_is_the_mean_of_three_by_three(self):
        images = torch.rand(2, 1, 96, 96, generator=generator())
        eyes = torch.tensor([[[0.44, 0.42], [0.56, 0.58]], [[0.3, 0.2], [0.3, 0.5]]])
        expected = images.view(2, 1, 32, 3, 32, 3).mean((3, 5))
        torch.testing.assert_close(aligned(images, eyes, Steps(align=False, crop=False)), expected, atol=1e-5, rtol=0)

    @pytest.mark.parametrize("off", ["align", "crop", "normalise"])
    def test_a_recipe_leaves_one_step_out_and_the_others_on(self, off, tmp_path):
        """When training and when predicting, also by a file read back."""
        short = "epochs = 1\norders = 1\npatience = 0\nbatch_size = 8\n"
        (tmp_path / "r.toml").write_text(f"{short}[network]\n{off} = false")
        recipe = read_recipe(tmp_path / "r.toml", get_baseline("lopes_cnn").recipe)
        rng = np.random.default_rng(0)
        points = np.array([[0.7, 0.4], [0.6, 0.4], [0.2, 0.3], [0.3, 0.3], [0.5, 0.6]])
        faces = np.stack([with_landmarks(rng.integers(0, 256, (96, 96), np.uint8), points) for _ in range(8)])
        CNNClassifier("lopes_cnn", recipe, device="cpu").fit(faces, ["anger", "fear"] * 4).save(tmp_path / "m")
        images = torch.from_numpy(faces).float()[:, None] / 255
        steps = Steps(**{off: False})
        expected = aligned(split_landmarks(images, 5)[0], eye_centres(split_landmarks(images, 5)[1]), steps)
        if steps.normalise:
            expected = local_contrast(expected)
        baseline = load_cnn(tmp_path / "m").baseline
        torch.testing.assert_close(baseline.views(images, 1)[0], expected)
        torch.testing.assert_close(baseline.training_inputs(images, Augmentation(), generator()), expected)

    def test_a_step_is_true_or_false(self, tmp_path):
        (tmp_path / "r.toml").write_text("[network]\nalign = 0")
        with pytest.raises(InputError, match="align = 0 is neither true nor false"):
            read_recipe(tmp_path / "r.toml", get_baseline("lopes_cnn").recipe)

    def test_bf16_does_not_move_the_crop(self):
        baseline, rng = get_baseline("lopes_cnn"), np.random.default_rng(0)
        face = with_landmarks(rng.integers(0, 256, (96, 96), np.uint8), rng.uniform(0.2, 0.8, (5, 2)))
        faces = torch.from_numpy(face)[None, None].float() / 255
        with autocast(torch.device("cpu"), "bf16"):
            rounded = baseline.views(faces, 1)[0]
        torch.testing.assert_close(rounded, baseline.views(faces, 1)[0])

    def test_what_lies_outside_repeats_the_border(self):
        cut = aligned(coordinates(50), torch.tensor([[[0.01, 0.5], [0.21, 0.5]]]))[0, 0]
        assert cut[0, 0] == pytest.approx(0.01, abs=1e-4)
        assert cut.isfinite().all()

    def test_eyes_on_one_spot_are_no_disaster(self):
        assert local_contrast(aligned(torch.rand(1, 1, 96, 96), torch.full((1, 2, 2), 0.5))).isfinite().all()

    def test_synthetic_samples_move_eyes_by_a_share_of_their_distance(self):
        eyes = torch.tensor([[[0.4, 0.4], [0.6, 0.4]]]).repeat(20_000, 1, 1)
        moved = moved_eyes(eyes, 0.05, generator()) - eyes
        assert moved.std(0).flatten().tolist() == pytest.approx([0.01] * 4, rel=0.03)
        assert moved.mean(0).abs().max() < 3e-4
        assert moved_eyes(eyes, 0.0, generator()) is eyes

    def test_local_contrast_is_opencvs_blur(self):
        """Mean and deviation by OpenCV's GaussianBlur."""
        cv2 = pytest.importorskip("cv2")
        picture = np.random.default_rng(0).random((32, 32)).astype(np.float32)
        mean = cv2.GaussianBlur(picture, (7, 7), 1.4)
        deviation = np.sqrt(cv2.GaussianBlur(picture**2, (7, 7), 1.4) - mean**2)
        ours = local_contrast(torch.from_numpy(picture)[None, None])[0, 0]
        np.testing.assert_allclose(ours, (picture - mean) / deviation, atol=1e-4)

    def test_local_contrast_undoes_light(self):
        picture = torch.rand(1, 1, 32, 32, generator=generator())
        torch.testing.assert_close(local_contrast(0.5 * picture + 0.3), local_contrast(picture), atol=1e-3, rtol=1e-3)
        assert local_contrast(torch.full((1, 1, 32, 32), 0.7)).abs().max() < 1e-3

    def test_training_without_noise_is_the_view_and_with_noise_is_not(self):
        baseline = get_baseline("lopes_cnn")
        rng = np.random.default_rng(0)
        face = with_landmarks(rng.integers(0, 256, (96, 96), np.uint8), rng.random((5, 2)))
        faces = torch.from_numpy(face)[None, None].repeat(2, 1, 1, 1).float() / 255
        view = baseline.views(faces, 10)
        assert len(view) == 1
        plain = baseline.training_inputs(faces, Augmentation(), generator())
        torch.testing.assert_close(plain, view[0])
        noisy = baseline.training_inputs(faces, Augmentation(eyes=0.05), generator())
        assert (noisy[0] - noisy[1]).abs().max() > 0.1
        assert (noisy - view[0]).abs().max() > 0.1

    def test_only_where_eyes_are_known_can_they_move(self):
        recipe = dataclasses.replace(get_baseline("agrawal_a").recipe, augmentation=Augmentation(eyes=0.05))
        with pytest.raises(InputError, match="does not align"):
            CNNClassifier("agrawal_a", recipe, device="cpu").fit(np.zeros((4, 64, 64), np.uint8), ["a", "b"] * 2)


EXAMPLE_68 = [
    77.296,
    68.9777,
    73.567,
    90.7539,
    73.6699,
    113.881,
    79.9589,
    136.925,
    88.602,
    159.343,
    96.9307,
    182.794,
    103.036,
    207.712,
    109.993,
    232.036,
    128.076,
    243.549,
    153.429,
    242.918,
    179.261,
    230.738,
    203.013,
    212.499,
    225.096,
    190.425,
    242.54,
    163.559,
    252.689,
    132.387,
    258.408,
    99.7858,
    261.177,
    68.0818,
    71.821,
    39.3796,
    78.2819,
    34.4547,
    88.2084,
    36.6252,
    98.1481,
    42.2743,
    106.693,
    50.228,
    135.723,
    49.4309,
    153.476,
    42.9695,
    173.333,
    40.9377,
    193.035,
    44.856,
    209.539,
    55.3789,
    117.967,
    72.6591,
    112.651,
    93.6165,
    106.934,
    113.757,
    101.112,
    134.238,
    93.4317,
    138.974,
    100.895,
    146.222,
    111.083,
    150.9,
    124.761,
    147.994,
    138.013,
    143.401,
    81.4451,
    64.0033,
    88.9698,
    59.1275,
    100.154,
    61.2914,
    109.243,
    71.2262,
    98.1165,
    72.3046,
    87.4698,
    70.5781,
    150.665,
    75.6852,
    162.124,
    66.8818,
    176.191,
    67.5268,
    189.706,
    73.9465,
    176.317,
    79.2318,
    162.724,
    78.8251,
    98.3533,
    168.282,
    99.1543,
    164.876,
    106.338,
    164.42,
    114.832,
    167.934,
    125.418,
    166.461,
    146.976,
    170.3,
    168.772,
    176.455,
    150.692,
    196.913,
    130.527,
    206.397,
    117.813,
    206.379,
    107.611,
    202.086,
    100.613,
    188.22,
    101.509,
    170.8,
    107.234,
    172.765,
    115.758,
    175.421,
    126.899,
    175.321,
    164.082,
    177.564,
    129.619,
    191.135,
    118.106,
    191.089,
    108.978,
    186.881,
]
EXAMPLE_24 = [
    68,
    28,
    93,
    35,
    119,
    35,
    169,
    37,
    88,
    54,
    71,
    56,
    142,
    59,
    166,
    65,
    103,
    64,
    94,
    100,
    86,
    147,
    93,
    144,
    110,
    146,
    148,
    154,
    94,
    177,
    114,
    181,
    78,
    42,
    153,
    47,
    81,
    63,
    148,
    69,
    79,
    106,
    149,
    115,
    72,
    138,
    162,
    146,
]
"""x and y of 68 landmarks in a face of 256 x 256, and of the 24 points that the authors make of them for 224 x 224."""


class TestPatches:
    def test_68_points_become_24(self):
        """Landmark i (from 1) at (i, 100 + 2 i): each point by hand, in the order of the released script."""
        numbers = torch.arange(1, 69.0)
        points = patch_points(torch.stack([numbers, 100 + 2 * numbers], dim=1)[None])[0]
        brows = [(19, 136), (22, 134), (23, 136), (26, 150)]
        taken = [(i, 100 + 2 * i) for i in (39, 37, 44, 46, 28, 30, 49, 51, 53, 55, 59, 57)]
        middles = [(29, 158), (35, 170), (41.5, 183), (47.5, 195), (38.5, 177), (42, 184)]
        assert points.tolist() == [list(map(float, p)) for p in (*brows, *taken, *middles, (33, 182), (71, 194))]
        meant = patch_points(torch.stack([numbers, 100 + 2 * numbers], dim=1)[None], outer_lift=8.0)[0]
        assert meant[:4, 1].tolist() == [130, 134, 136, 144]

    def test_the_authors_example_becomes_their_points(self):
        """The row printed in their script but for the cheeks: those were made with 10 pixels up, 16 are released."""
        landmarks = torch.tensor(EXAMPLE_68).view(1, 68, 2)
        points = (patch_points(landmarks) * (224 / 256) + 0.5).trunc().int()[0]
        printed = torch.tensor(EXAMPLE_24).view(24, 2)
        cheeks = [22, 23]
        assert (points[:22] == printed[:22]).all()
        assert points[cheeks, 0].tolist() == printed[cheeks, 0].tolist()
        higher = landmarks.clone()
        higher[0, [48, 54], 1] += 6
        assert (patch_points(higher) * (224 / 256) + 0.5).trunc().int()[0, cheeks].tolist() == printed[cheeks].tolist()

    def test_points_become_whole_pixels_of_the_view(self):
        """Pixel 100 of 256 is 87.5 of 224, and 88 by adding a half and cutting off; pixel 101 is 88.375, so 88."""
        landmarks = torch.zeros(1, 68, 2)
        landmarks[0, 36], landmarks[0, 38] = (100 + 0.5) / 256, (101 + 0.5) / 256
        placed = view_pixels(landmarks, 2.0)[0]
        assert placed[5].tolist() == [88, 88]
        assert placed[4].tolist() == [88, 88]

    def test_windows_begin_where_the_script_begins_them(self):
        """Of pixel 100, 100 / 8 - 3 = 9.5, halves away from zero: cell 10; of pixel 20, -0.5: cell -1, outside."""
        maps = torch.arange(1, 28 * 28 + 1.0).view(1, 1, 28, 28)
        windows = patches(maps, torch.tensor([[[100.0, 44.0], [20.0, 20.0], [500.0, 9.0], [-300.0, 9.0]]]))[0, :, 0]
        torch.testing.assert_close(windows[0], maps[0, 0, 3:9, 10:16])
        assert windows[1, 0].sum() == windows[1, :, 0].sum() == 0
        torch.testing.assert_close(windows[1, 1:, 1:], maps[0, 0, :5, :5])
        assert windows[2:].abs().sum() == 0

    @pytest.mark.parametrize("name", ["pacnn", "gacnn"])
    def test_parts_have_the_published_parameters(self, name):
        """Backbone, one gated unit, and the unit of the whole face (baselines.md 5.3)."""
        baseline = get_baseline(name)
        with torch.device("meta"):
            network = baseline.build(7, **baseline.recipe.network)
        count = [sum(weights.numel() for weights in part.parameters()) for part in (network.features, network.units[0])]
        assert count == [5_275_456, 5_973_314]
        assert len(network.units) == 24
        assert (network.whole is None) == (name == "pacnn")

    def test_maps_have_the_published_sides(self):
        seen = {}
        network = ACNN(7, whole=True, width=1 / 64, shared=1).eval()
        for path, layer in network.named_modules():
            layer.register_forward_hook(lambda layer, given, maps, path=path: seen.update({path: maps.shape[1:]}))
        with torch.inference_mode():
            network(Face(torch.rand(2, 3, 224, 224), torch.rand(2, 68, 2)))
        assert seen["features"] == (8, 28, 28)
        assert seen["units.0.convolutions"] == (8, 6, 6)
        assert seen["units.0.gate.maps"] == (128, 5, 5)
        assert seen["whole.convolutions"] == (8, 14, 14)
        assert seen["whole.gate.maps"] == (128, 9, 9)
        assert seen["classifier.0"] == (24 * 64 + 512,)

    def test_a_patch_far_from_every_point_is_not_seen(self):
        """pacnn looks at patches alone: change the picture where no window, nor its convolutions, reach."""
        torch.manual_seed(0)
        network = ACNN(7, whole=False, width=1 / 16).eval()
        picture, landmarks = torch.rand(1, 3, 224, 224), torch.full((1, 68, 2), 0.25)
        changed = picture.clone()
        changed[..., 190:, 190:] = 0
        with torch.inference_mode():
            one, two = (network(Face(view, landmarks)) for view in (picture, changed))
            far = network(Face(changed, landmarks + 0.5))
        torch.testing.assert_close(one, two)
        assert (far - two).abs().max() > 1e-4

    def test_test_views_cut_the_middle_and_mirror_names(self):
        baseline = get_baseline("gacnn")
        rng = np.random.default_rng(0)
        landmarks = rng.uniform(0.2, 0.8, (68, 2))
        crop = with_landmarks(rng.integers(0, 256, (232, 232, 3), np.uint8), landmarks)
        plain, mirrored = baseline.views(torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 255, 10)
        np.testing.assert_allclose(plain.landmarks[0], (landmarks * 232 - 4) / 224, atol=1e-4)
        torch.testing.assert_close(plain.view.flip(-1), mirrored.view)
        expected = torch.stack([1 - plain.landmarks[0, :, 0], plain.landmarks[0, :, 1]], dim=1)[list(MIRROR_68)]
        torch.testing.assert_close(mirrored.landmarks[0], expected)

    @pytest.mark.parametrize(
        "how",
        [Augmentation(shift=9.0), Augmentation(flip=1.0), Augmentation(flip=0.5, shift=5, scale=0.3, rotation=40)],
    )
    def test_landmarks_move_with_the_picture(self, how):
        """The moved picture of coordinates says at each new landmark where it was before."""
        landmarks = torch.rand(40, 68, 2, generator=generator()) * 0.3 + 0.35
        view, placed = augment_with_landmarks(
            coordinates(120).repeat(40, 1, 1, 1), landmarks, MIRROR_68, how, 100, generator(1)
        )
        before = torch.nn.functional.grid_sample(view, 2 * placed[:, None] - 1, align_corners=False)[:, :, 0]
        mirrored = view[:, 0, 50, 60] < view[:, 0, 50, 40]
        assert mirrored.float().mean() == how.flip or 0.2 < mirrored.float().mean() < 0.8
        named = torch.where(mirrored[:, None, None], landmarks[:, list(MIRROR_68)], landmarks)
        inside = ((placed > 0.01) & (placed < 0.99)).all(2)
        torch.testing.assert_close(before.transpose(1, 2)[inside], named[inside], atol=2e-3, rtol=0)
        assert inside.float().mean() > 0.9


def bands(count, seed=0):
    """Three classes of lopes_cnn's faces, level eyes: a bright band at one of three heights, and much noise."""
    rng = np.random.default_rng(seed)
    faces = rng.integers(0, 200, (count, 96, 96))
    corners = np.array([[0.7, 0.4], [0.6, 0.4], [0.3, 0.4], [0.4, 0.4], [0.5, 0.6]])
    for row, face in enumerate(faces):
        face[28 + row % 3 * 14 : 35 + row % 3 * 14] += 55
    labels = np.array(["anger", "fear", "joy"])[np.arange(count) % 3]
    return np.stack([with_landmarks(face, corners) for face in faces.astype(np.uint8)]), labels


def of_orders(**changes):
    values = {"epochs": 4, "batch_size": 8, "lr": 0.02, "patience": 2, "orders": 3, **changes}
    return CNNClassifier("lopes_cnn", dataclasses.replace(get_baseline("lopes_cnn").recipe, **values), device="cpu")


class TestOrders:
    def test_the_best_epoch_of_all_orders_is_the_model(self):
        validation = bands(60, seed=1)
        model = of_orders().fit(*bands(48), validation=validation)
        history, kept = model.training["history"], model.training["kept"]
        accuracies = [row["val_accuracy"] for row in history]
        assert kept == history[int(np.argmax(accuracies))]
        assert (model.predict(validation[0]) == validation[1]).mean() == pytest.approx(kept["val_accuracy"])
        assert {row["order"] for row in history} == {1, 2, 3}
        assert len({row["loss"] for row in history if row["epoch"] == 1}) == 3

    def test_the_weights_of_the_best_epoch_are_kept_and_not_the_last_ones(self, monkeypatch):
        """The first of two equally good epochs, with an accuracy for each epoch that nothing decides."""
        accuracies, seen = [0.2, 0.9, 0.9, 0.1], []

        def told(trainer, faces, targets):
            seen.append({name: tensor.clone() for name, tensor in trainer.result.state_dict().items()})
            return accuracies[len(seen) - 1]

        monkeypatch.setattr(Trainer, "accuracy", told)
        model = of_orders(orders=1, patience=3).fit(*bands(48), validation=bands(12, seed=1))
        assert model.training["kept"]["epoch"] == 2
        same = [all(torch.equal(own[name], kept) for name, kept in model.network_.state_dict().items()) for own in seen]
        assert same == [False, True, False, False]

    def test_all_orders_start_from_the_same_weights(self):
        rows = of_orders(lr=1e-12, momentum=0.0).fit(*bands(48), validation=bands(60, seed=1)).training["history"]
        assert len({row["val_accuracy"] for row in rows}) == 1

    def test_a_run_ends_when_patience_does(self):
        """Nothing changes, so each order's first epoch is its best, and `patience` more follow."""
        model = of_orders(lr=1e-12, momentum=0.0, epochs=9).fit(*bands(48), validation=bands(12, seed=1))
        assert [(row["order"], row["epoch"]) for row in model.training["history"]] == [
            (order, epoch) for order in (1, 2, 3) for epoch in (1, 2, 3)
        ]
        assert model.training["kept"] == model.training["history"][0]
        assert len({row["loss"] for row in model.training["history"]}) == 9  # each epoch draws anew

    def test_without_validation_faces_there_is_one_order_and_its_end(self):
        history = of_orders().fit(*bands(48)).training["history"]
        assert [row["epoch"] for row in history] == [1, 2, 3, 4]
        assert {row["order"] for row in history} == {1}

    @pytest.mark.parametrize("stopped", [2, 4, 6])
    def test_resuming_in_any_order_ends_with_the_same_model(self, stopped, tmp_path):
        faces, validation, checkpoint = bands(48), bands(60, seed=1), tmp_path / "m.ckpt"
        whole = of_orders().fit(*faces, validation=validation)
        assert len(whole.training["history"]) > stopped

        def stop(history):
            if len(history) == stopped:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            of_orders().fit(*faces, validation=validation, checkpoint=checkpoint, after_epoch=stop)
        resumed = of_orders().fit(*faces, validation=validation, checkpoint=checkpoint, resume=True)
        np.testing.assert_array_equal(whole.decision_function(faces[0]), resumed.decision_function(faces[0]))

        def but_seconds(model):
            return [{key: value for key, value in row.items() if key != "seconds"} for row in model.training["history"]]

        assert but_seconds(whole) == but_seconds(resumed)

    def test_orders_need_patience(self):
        with pytest.raises(InputError, match="orders"):
            TrainingRecipe(epochs=1, batch_size=2, lr=0.1, orders=2)


class TestSeedHeads:
    def recipe(self, tmp_path, text):
        (tmp_path / "r.toml").write_text(text)
        return read_recipe(tmp_path / "r.toml", get_baseline("seed_cnn").recipe)

    def test_a_head_brings_its_loss(self, tmp_path):
        assert get_baseline("seed_cnn").recipe.network == {"head": "sigmoid"}
        assert self.recipe(tmp_path, '[network]\nhead = "softmax"').loss == "cross-entropy"
        assert self.recipe(tmp_path, "epochs = 3").loss == "half-squared-error"

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ('[network]\nhead = "relu"', "known are sigmoid, softmax, svm"),
            ("[network]\nhead = 3", "known are sigmoid, softmax, svm"),
            ("[network]\nhead = []", "known are sigmoid, softmax, svm"),
            ('loss = "half-squared-error"\n[network]\nhead = "softmax"', "softmax with cross-entropy"),
            ('loss = "cross-entropy"', "sigmoid with half-squared-error"),
        ],
    )
    def test_what_does_not_fit_together_is_refused(self, tmp_path, text, said):
        with pytest.raises(InputError, match=said):
            self.recipe(tmp_path, text)

    def test_outputs_are_the_heads(self, tmp_path):
        """The same scores become probabilities by softmax, or by sigmoids divided by their sum."""
        rng = np.random.default_rng(0)
        faces, labels = rng.integers(0, 256, (20, 100, 100), np.uint8), np.array(["a", "b"] * 10)
        for head in ("softmax", "sigmoid"):
            recipe = dataclasses.replace(self.recipe(tmp_path, f'[network]\nhead = "{head}"'), epochs=1)
            model = CNNClassifier("seed_cnn", recipe, device="cpu").fit(faces, labels)
            model.save(tmp_path / "m.safetensors")
            scores = model.decision_function(faces).astype(float)
            outputs = np.exp(scores) if head == "softmax" else 1 / (1 + np.exp(-scores))
            if head == "sigmoid":
                np.testing.assert_allclose(model.outputs(faces), outputs, rtol=1e-5)
            for own in (model, load_cnn(tmp_path / "m.safetensors", device="cpu")):
                np.testing.assert_allclose(own.predict_proba(faces), outputs / outputs.sum(1, keepdims=True), rtol=1e-5)


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    """48 x 48 grey faces without boxes, as FER2013 has them, of eight people."""
    path = tmp_path_factory.mktemp("pixels") / "faces.npz"
    rng, images, labels = np.random.default_rng(0), [], []
    for number in range(24):
        emotion = ("happiness", "anger", "surprise")[number % 3]
        face = render_face(Identity.draw(1, number // 3), emotion, 1.0, size=(80, 80), rng=rng)
        images.append(face.image[12:68, 12:68].mean(2).astype(np.uint8)[4:52, 4:52])
        labels.append(number % 3)
    names = np.array(["happiness", "anger", "surprise"])
    np.savez(path, images=np.stack(images), labels=np.array(labels), classes=names)
    return path


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("dlib", "face_recognition_models"))), reason="no dlib-models"
)
class TestCommands:
    @pytest.mark.parametrize(
        ("arch", "recipe"),
        [
            ("lopes_cnn", "epochs = 4\nbatch_size = 4\norders = 2\n"),
            ("pacnn", "epochs = 1\nbatch_size = 8\n[network]\nwidth = 0.0625\nshared = 1\n"),
        ],
    )
    def test_bare_pixels_are_trained_on_and_classified(self, arch, recipe, pixels, tmp_path, capsys):
        (tmp_path / "r.toml").write_text(recipe)
        model = tmp_path / "m.safetensors"
        words = ("--recipe", tmp_path / "r.toml", "--model", model, "--workers", 0)
        fitted = run(capsys, "fit_cnn", pixels, "--arch", arch, *words)
        assert fitted["labels"] == ["anger", "happiness", "surprise"]
        if arch == "lopes_cnn":  # people of whom nothing is known: copies alone are kept together
            assert sum(fitted["samples"].values()) < 24
            assert {row["order"] for row in fitted["history"]} == {1, 2}
        words = ("--model", model, "--out", tmp_path / "o", "--workers", 0)
        classified = run(capsys, "classify", pixels, *words)
        assert classified["scores"]["coverage"] == 1.0
        assert classified["recipe"]["features"]["points"] == get_baseline(arch).framing.points

    @pytest.mark.parametrize(("budget", "orders"), [((), {1, 2}), (("--epochs", 3), {None})])
    def test_compare_holds_people_out_to_choose_the_order(
        self, budget, orders, rendered, tmp_path, monkeypatch, capsys
    ):
        """Folds leave nothing to choose on; a stated budget is spent on one order."""
        recipe = dataclasses.replace(get_baseline("lopes_cnn").recipe, epochs=2, batch_size=8, patience=1, orders=2)
        monkeypatch.setitem(BASELINES, "lopes_cnn", dataclasses.replace(get_baseline("lopes_cnn"), recipe=recipe))
        seen, fit = [], CNNClassifier.fit

        def watched(self, faces, labels, **named):
            model = fit(self, faces, labels, **named)
            seen.append(
                (len(faces), len(named["validation"][0]), {row.get("order") for row in model.training["history"]})
            )
            return model

        monkeypatch.setattr(CNNClassifier, "fit", watched)
        words = ("compare", rendered / "samples.csv", "--methods", "lopes_cnn", "--folds", 4, "--workers", 0, *budget)
        figures = run(capsys, *words, "--out", tmp_path)
        assert figures["photos"] == 64
        assert seen == [(40, 8, orders)] * 4  # of six people one
