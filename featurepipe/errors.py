"""The errors featurepipe raises for things a user can mend; commands turn each into exit code 2."""

import pathlib
import sys


class FeaturepipeError(Exception):
    """Base of all of them. The text says what happened, what was expected, and what to do."""


class InputError(FeaturepipeError, ValueError):
    """An argument, a SOURCE or a file is not what the command needs."""


class WeightsError(FeaturepipeError):
    """A weights file is missing, could not be fetched, or is not the network it claims to be."""


class ModelError(FeaturepipeError):
    """A model file is unsafe, of an unknown format, or damaged; nothing in it was run."""


class RecipeMismatch(FeaturepipeError, ValueError):
    """Features were made in another way than the model, or the rest of the table, expects; vectors of another width."""


class TableError(FeaturepipeError):
    """A feature table is missing, damaged, or being written by another process."""


class MissingPackageError(FeaturepipeError, ImportError):
    """An optional package is asked for and is not installed."""


def install_extra(extra: str) -> str:
    """The command that installs an extra of featurepipe into the Python that runs this.

    Out of the checkout where it runs from one: an index may know another project of this name, or none.
    """
    checkout = pathlib.Path(__file__).resolve().parent.parent
    where = f'-e "{checkout}[{extra}]"' if (checkout / "setup.cfg").is_file() else f'"featurepipe[{extra}]"'
    return f'"{sys.executable}" -m pip install {where}'
