"""Every database with a reader of its own, by its id."""

from __future__ import annotations

from featurepipe.datasets import (
    affectnet,
    bu_3dfe,
    casme2,
    ck48,
    ckextended,
    ckplus,
    fed_ro,
    fer2013,
    ferplus,
    gemep_fera,
    jaffe,
    kdef,
    mmi,
    multipie,
    oulu_casia,
    raf_db,
    rafd,
    sfew,
)
from featurepipe.datasets.database import Database

_MODULES = (
    affectnet,
    bu_3dfe,
    casme2,
    ck48,
    ckextended,
    ckplus,
    fed_ro,
    fer2013,
    ferplus,
    gemep_fera,
    jaffe,
    kdef,
    mmi,
    multipie,
    oulu_casia,
    raf_db,
    rafd,
    sfew,
)

DATABASES: dict[str, Database] = {
    database.name: database for database in sorted((module.DATABASE for module in _MODULES), key=lambda one: one.name)
}
"""Databases by id, alphabetically; featurepipe.names.DATABASES mirrors the ids."""
