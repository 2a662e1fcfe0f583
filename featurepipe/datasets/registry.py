"""Every database with a reader of its own, by its id."""

from __future__ import annotations

from featurepipe.datasets import (
    ck48,
    ckextended,
    fer2013,
)
from featurepipe.datasets.database import Database

_MODULES = (
    ck48,
    ckextended,
    fer2013,
)

DATABASES: dict[str, Database] = {
    database.name: database for database in sorted((module.DATABASE for module in _MODULES), key=lambda one: one.name)
}
"""Databases by id, alphabetically; featurepipe.names.DATABASES mirrors the ids."""
