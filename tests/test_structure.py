"""The rules of the code base that a program can check."""

import ast
import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import featurepipe
from featurepipe import errors, names
from featurepipe.cli import main

PACKAGE = Path(featurepipe.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
STAGES = {"datasets", "faces", "features", "models", "report"}
COMMANDS = ("extract", "fit_svm", "classify", "fit_cnn", "compare", "weights", "datasets", "export", "render", "bench")


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports hide which stage they are of"
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def functions_of(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def public_functions_of(path):
    """Functions of the module, and methods of its public classes."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        inner = node.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_") else [node]
        yield from (item for item in inner if isinstance(item, ast.FunctionDef) and not item.name.startswith("_"))


def length_of(node):
    return node.end_lineno - node.lineno + 1 - len((ast.get_docstring(node) or "").splitlines())


def name_of(path):
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_stages_do_not_import_one_another(path):
    own = path.relative_to(PACKAGE).parts[0]
    allowed = STAGES if own in ("commands", "bench") else {own}
    for module in imports_of(path):
        parts = module.split(".")
        if parts[0] == "featurepipe" and len(parts) > 1:
            assert parts[1] not in STAGES - allowed, f"{path} imports {module}"
            assert parts[1] != "commands" or own == "commands", f"{path} imports {module}"
            assert parts[1] != "bench" or own in ("commands", "bench"), f"{path} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_are_short_and_public_ones_documented(path):
    for node in functions_of(path):
        assert length_of(node) <= 60, f"{node.name} has {length_of(node)} lines"
    for node in public_functions_of(path):
        assert ast.get_docstring(node) or length_of(node) <= 5, f"{node.name} has no docstring"


def test_every_public_name_has_an_example():
    for name in set(featurepipe.__all__) - {"__version__", "FeaturepipeError"}:
        assert ">>> " in getattr(featurepipe, name).__doc__, name


def test_examples_in_docstrings_are_true():
    told = [path for path in MODULES if ">>> " in path.read_text(encoding="utf-8")]
    assert len(told) > 5
    for path in told:
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        result = doctest.testmod(importlib.import_module(module))
        assert result.attempted, f"{path} has no example that runs"
        assert not result.failed, f"{path}: an example is not true"


@pytest.mark.parametrize(
    ("command", "action"),
    [("weights", action) for action in ("list", "fetch", "verify", "convert")]
    + [("datasets", action) for action in ("list", "verify")],
)
def test_help_of_an_action_shows_an_example(command, action, capsys):
    with pytest.raises(SystemExit):
        main([command, action, "--help"])
    assert f"example:\n  bin/{command} {action}" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_and_loads_nothing_heavy(command):
    program = (
        "import sys, runpy\n"
        f"sys.argv = ['featurepipe', '{command}', '--help']\n"
        "try:\n    runpy.run_module('featurepipe', run_name='__main__')\n"
        "finally:\n    print(sorted({m.split('.')[0] for m in sys.modules} & "
        "{'torch', 'dlib', 'sklearn', 'numpy', 'pyarrow', 'PIL', 'scipy'}), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "example:" in done.stdout
    assert done.stderr.strip().endswith("[]")


def test_names_mirror_their_registries():
    from featurepipe.commands.bench import ROWS
    from featurepipe.conversion.convert import FORMATS
    from featurepipe.datasets.protocols import PROTOCOLS
    from featurepipe.datasets.readers import GENERIC
    from featurepipe.datasets.registry import DATABASES
    from featurepipe.faces.detectors import _BUILDERS
    from featurepipe.features.backbones import REGISTRY
    from featurepipe.features.export import WRITERS
    from featurepipe.models.baselines.registry import BASELINES

    registries = (_BUILDERS, REGISTRY, BASELINES, {**GENERIC, **DATABASES}, WRITERS, FORMATS, ROWS, PROTOCOLS)
    mirrors = (
        *(names.DETECTORS, names.BACKBONES, names.ARCHITECTURES, names.DATASETS, names.EXPORTS, names.LAYOUTS),
        names.BENCHMARKS,
        names.PROTOCOLS,
    )
    for registry, mirror in zip(registries, mirrors, strict=True):
        assert set(registry) == set(mirror)


def test_every_dependency_has_its_reason():
    """In setup.cfg every requirement stands below a comment line or below another line of the same extra."""
    lines = (PACKAGE.parent / "setup.cfg").read_text(encoding="utf-8").splitlines()
    start, end = lines.index("install_requires ="), lines.index("[options.extras_require]")
    required = [
        number for number in range(start + 1, end) if lines[number].startswith("    ") and "#" not in lines[number]
    ]
    assert len(required) > 5
    for number in required:
        assert lines[number - 1].strip().startswith("#"), lines[number]


def test_the_public_names_load_when_used_and_not_before():
    program = (
        "import sys, featurepipe\n"
        "assert not {'numpy', 'torch', 'sklearn', 'dlib'} & set(sys.modules)\n"
        "print([getattr(featurepipe, name).__doc__.split()[0] for name in featurepipe.__all__ if name[0] != '_'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="nothing"):
        _ = featurepipe.nothing


def test_type_checkers_see_every_public_name_in_its_home():
    """They cannot follow the module's __getattr__: without the stub each name is "object" to them."""
    tree = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.asname: (node.module, alias.name) for node in imports for alias in node.names}
    declared = [node.target.id for node in tree.body if isinstance(node, ast.AnnAssign)]
    assert seen == {name: (home, name) for name, home in featurepipe._HOMES.items()}
    assert sorted([*seen, *declared]) == sorted(featurepipe.__all__)


def test_each_of_our_errors_is_caught_by_the_public_base():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert all(issubclass(kind, featurepipe.FeaturepipeError) for kind in kinds)
    assert issubclass(errors.RecipeMismatch, ValueError)  # scikit-learn's contract for a wrong width
