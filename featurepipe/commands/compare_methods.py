"""The methods of `compare`: linear SVMs on a backbone, CNNs, and variants of these, ARCHITECTURE@VARIANT."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from featurepipe.errors import InputError
from featurepipe.models.baselines import Baseline
from featurepipe.models.baselines.registry import BASELINES
from featurepipe.models.training import check_recipe
from featurepipe.models.training_recipe import TrainingRecipe, read_recipe
from featurepipe.names import METHODS, architecture_of

VARIANT = re.compile(r"[A-Za-z0-9_.-]{1,40}")
"""What may follow the @: it stands in names of files."""


def cnn_of(name: str) -> Baseline | None:
    """The architecture of a CNN or of a variant of one; None for a linear SVM."""
    return BASELINES.get(architecture_of(name))


def recipe_of(args: argparse.Namespace, name: str) -> TrainingRecipe:
    """How the CNN is trained: its own recipe, or --recipe's; with a budget for its epochs, and in one order."""
    recipe: TrainingRecipe = args.recipes.get(name) or BASELINES[architecture_of(name)].recipe
    if args.epochs or args.minutes:
        recipe = replace(recipe, epochs=args.epochs or recipe.epochs, orders=1)
    return recipe


def check_methods(args: argparse.Namespace) -> None:
    """Read the files of --recipe into `args.recipes`, by method: once, as they may be edited or gone before the last
    fit, which must be of the recipe that its result is kept under.

    Raises InputError for names that are no methods, and for recipes that are missing, or not of a CNN among them.
    """
    if unknown := [name for name in args.methods if architecture_of(name) not in METHODS]:
        raise InputError(f"unknown method {', '.join(unknown)}; known are {', '.join(METHODS)}")
    if twice := _twice(name for name, _ in args.recipe):
        raise InputError(f"--recipe names {', '.join(twice)} more than once: a method has one recipe")
    for name in args.methods:
        _check_variant(name, dict(args.recipe))
    args.recipes = {}
    for name, path in args.recipe:
        cnn = cnn_of(name)
        if cnn is None or name not in args.methods:
            raise InputError(f"--recipe {name}=...: {name} is no CNN among the methods to compare")
        args.recipes[name] = _read(path, cnn)
        check_recipe(recipe_of(args, name), cnn)  # a mistake is said before faces are looked for
    if (args.epochs or args.minutes) and not any(map(cnn_of, args.methods)):
        raise InputError("--epochs and --minutes are for CNNs, and none is among the methods: leave them out")


def _read(path: str, cnn: Baseline) -> TrainingRecipe:
    recipe = read_recipe(path, cnn.recipe)
    if recipe.soft_weight:
        raise InputError(f"{path}: soft_weight is {recipe.soft_weight}, and compare has no soft labels; set it to 0")
    return recipe


def _check_variant(name: str, recipes: dict[str, str]) -> None:
    own, at, variant = name.partition("@")
    if not at:
        return
    if cnn_of(name) is None:
        raise InputError(f"{name}: variants are of CNNs, which a recipe trains otherwise; {own} is an SVM")
    if not VARIANT.fullmatch(variant):
        raise InputError(f"{name}: expected letters, digits, '_', '.' or '-' after the @, 40 at most")
    if name not in recipes:
        raise InputError(f"{name} would be {own} once more: say how it differs by --recipe {name}=FILE.toml")


def _twice(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]
