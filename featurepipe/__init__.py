"""Photos of faces to emotions: dlib faces, VGG fc7 vectors, a linear SVM, and CNN baselines beside it.

The names below are the public interface; each is loaded when it is first used, so that `import featurepipe` is quick.
__init__.pyi says to type checkers what they are.
"""

import importlib

__version__ = "0.1.0"

_HOMES = {
    "CNNClassifier": "featurepipe.models.cnn",
    "FeaturepipeError": "featurepipe.errors",
    "FeatureTable": "featurepipe.features.table",
    "LinearSVM": "featurepipe.models.linear_svm",
    "LinearSVMCV": "featurepipe.models.svm",
    "classify": "featurepipe.commands.library",
    "crops": "featurepipe.commands.library",
    "extract": "featurepipe.features.extraction",
    "fit": "featurepipe.commands.library",
    "load_backbone": "featurepipe.features.backbones",
    "load_model": "featurepipe.models.persistence",
    "read_source": "featurepipe.datasets.readers",
    "vectors": "featurepipe.commands.library",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> object:
    """Load a public name from the module that holds it (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'featurepipe' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names, for completion."""
    return __all__
