"""README keeps its word: its commands are understood, and its table is what the kept comparison says."""

import json
import re
import shlex
from pathlib import Path

import pytest
from command_helpers import run

from featurepipe.cli import build_parser

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CARD = (ROOT / "weights" / "fer-vgg.md").read_text(encoding="utf-8")
TRIALS = (ROOT / "weights" / "trials.md").read_text(encoding="utf-8")
COMMANDS = ("extract", "fit_svm", "classify", "fit_cnn", "compare", "weights", "datasets", "bench", "export", "render")


def commands_in(text):
    """The whole commands of a document: indented, or in backticks; with backslashes at the end of lines joined."""
    joined = re.sub(r"\\\n\s*", " ", text)
    spans = re.findall(r"^ {4,}(bin/\w+ .*)$", joined, re.M) + re.findall(r"`(bin/\w+ [^`]*)`", joined)
    return [" ".join(span.split()) for span in spans]


def is_whole(command):
    """Whether it is no heading's pattern such as `bin/extract SOURCE --table DIR`, nor options alone."""
    if re.fullmatch(r"bin/(fit_cnn|compare)( --[\w-]+( [A-Z])?)+", command):
        return False
    return not re.search(r"[|\[$?]|\.\.\.|SOURCE|NAME|TABLE\b", command)


@pytest.mark.parametrize(
    "command", sorted(filter(is_whole, commands_in(README) + commands_in(CARD) + commands_in(TRIALS)))
)
def test_commands_are_understood(command):
    words = shlex.split(command.partition("#")[0])
    name = words[0].removeprefix("bin/")
    if name in COMMANDS:
        build_parser().parse_args([name, *words[1:]])
    else:
        assert (ROOT / words[0]).is_file()


def test_many_commands_are_looked_at():
    assert len(list(filter(is_whole, commands_in(README)))) > 9


def test_the_table_of_fer2013_is_the_kept_comparison():
    methods = json.loads((ROOT / "weights" / "fer2013-comparison.json").read_text(encoding="utf-8"))["methods"]
    rows = re.findall(
        r"^\| `([\w:-]+)`[^|]*\| ([\d.]+) %(?: \(([\d.]+) to ([\d.]+)\))? \| ([\d.]+) % \| ([\d.]+) %", README, re.M
    )
    assert {row[0] for row in rows} == set(methods)
    for name, accuracy, low, high, new, uar in rows:
        found = methods[name]
        ends = found["all"]["intervals"]["accuracy"] if low else []
        figures = [found["all"]["accuracy"], found["new"]["accuracy"], found["all"]["uar"], *ends]
        told = [accuracy, new, uar, *filter(None, (low, high))]
        assert told == [f"{100 * figure:.1f}" for figure in figures], name


KEYS = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", README[README.index("## For machines") :], re.M))
"""By command the keys that README names."""


def named(command):
    """Names at the top level: what stands in brackets is inside of one."""
    outside = re.sub(r"\([^()]*\)", "", KEYS[command]).partition(";")[0]
    return {word.strip() for word in outside.split(",")}


def test_documents_have_the_keys_that_readme_names(tmp_path, capsys):
    faces, table, recipe = tmp_path / "faces", tmp_path / "table", tmp_path / "r.toml"
    recipe.write_text("epochs = 1\nbatch_size = 4\n")
    samples, model = faces / "samples.csv", tmp_path / "svm.pkl"
    plain = ("--detector", "none", "--workers", 0)
    runs = (
        ("render", faces, "--subjects", 2, "--size", 32),
        ("extract", samples, "--table", table, "--backbone", "hog", *plain),
        ("fit_svm", table, "--model", model, "--C", 1, "--folds", 2),
        ("classify", samples, "--model", model, "--out", tmp_path / "c", *plain),
        ("export", table, "--to", "npz", "--out", tmp_path / "f.npz"),
        ("fit_cnn", samples, "--arch", "seed_cnn", "--recipe", recipe, "--model", tmp_path / "m", *plain),
    )
    for words in runs:
        assert set(run(capsys, *words)) == named(words[0]), words[0]
