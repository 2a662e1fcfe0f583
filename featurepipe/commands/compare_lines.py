"""What `compare` prints: its document as a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featurepipe.commands.compare_leaks import leak_lines
from featurepipe.console import aligned
from featurepipe.names import INDEPENDENT
from featurepipe.report.metrics import written_p


def lines_of(document: dict[str, Any], out: Path) -> list[str]:
    """The comparison as a table for people."""
    pairs = document["mcnemar"]
    tests = [
        f"McNemar {pair}: p {written_p(test['p'])}"
        + (f", corrected for {len(pairs)} pairs {written_p(test['p_corrected'])}" if len(pairs) > 1 else "")
        for pair, test in pairs.items()
    ]
    head = [head_of(document), *_warning(document), *_left_out(document), chance_of(document), *_seeds(document)]
    if any(_epochs(row["runs"]) for row in document["methods"].values()):
        head.append(f"each CNN has {budget_of(document)}")
    head += _not_chosen(document)
    head += leak_lines(document["leaks"])
    failed = [f"{name} failed: {why}" for name, why in document["failed"].items()]
    return [
        *head,
        *_table([_cells(name, row) for name, row in document["methods"].items()]),
        *_seconds(document),
        *_too_few(document),
        *_undertrained(document),
        *failed,
        *tests,
        *_exchanged(document),
        *_sizes(document),
        *_published(document),
        f"all figures: {out}" + (f", page: {page}" if (page := out / "report.html").exists() else ""),
    ]


def chance_of(document: dict[str, Any]) -> str:
    """What methods reach that have learnt nothing."""
    return f"chance {document['chance']}; the most frequent label alone: accuracy {document['most_frequent']}"


def _seeds(document: dict[str, Any]) -> list[str]:
    seeds = document["seeds"]
    others = "rank, training sizes and mean +- sd are of all seeds"
    return [f"figures are of seed {seeds[0]}; {others}"] if len(seeds) > 1 else []


def _exchanged(document: dict[str, Any]) -> list[str]:
    of = document["mcnemar_of"]
    if not document["mcnemar"] or of["groups"] == of["photos"]:
        return []
    return [f"McNemar: photos of the same {of['what']} are exchanged together, {of['groups']} groups of {of['photos']}"]


def head_of(document: dict[str, Any]) -> str:
    """What was compared, and how, in one line."""
    name = f"{document['protocol_name']}: " if document["protocol_name"] else ""
    head = f"{document['photos']} {document['unit']}, {len(document['classes'])} classes, {name}{document['protocol']}"
    if "train" in document:
        head += f": fitted on {document['train']}, tested on {document['test']}"
    if document["unit"] == "sequences":
        head += " (methods of single faces see the peak frame)"
    head += {"known": "", "unknown": ", identity unknown", "shared": ", the same people on both sides"}[
        document["identity"]
    ]
    if document.get("folds_seed", document["seed"]) != document["seed"]:
        head += f", folds frozen with seed {document['folds_seed']}"
    if document["shuffled_labels"]:
        head += ", LABELS SHUFFLED"
    if document.get("shared"):
        head += f"; {document['shared']} test photos show people or pictures that train or val hold too"
    for label, count in document["untrained"].items():
        head += f"; {count} {document['unit']} are labelled {label}, which is not trained on: always wrong"
    return head + _unread(document)


def _unread(document: dict[str, Any]) -> str:
    """Photos that are in no figure."""
    counts = document["unread"] if "train" in document else {"source": document["unread"]}
    return "".join(
        f"; {count} labelled {document['unit']} of {document[side]} are missing or cannot be read: left out"
        for side, count in counts.items()
        if count
    )


def _warning(document: dict[str, Any]) -> list[str]:
    return [f"WARNING: {document['protocol_warning']}"] if document["protocol_warning"] else []


def _left_out(document: dict[str, Any]) -> list[str]:
    """What was dropped for its label, of each side, and refused as known."""
    if "train" not in document:
        return [f"dropped: {_counted(document['dropped'])}"] if document["dropped"] else []
    lines = [f"dropped of {document[side]}: {_counted(document['dropped'][side])}" for side in ("train", "test")]
    lines.append(f"classes: {', '.join(document['classes'])} (label set {document['labels']})")
    lines.append(f"fitted on {document['fitted_on']} photos, chosen on {document['chosen_on'] or 'folds of them'}")
    for why, words in (("in_train", "occur in the training photos too"), ("trained_on", "a backbone was trained on")):
        if count := document["refused"][why]:
            lines.append(f"refused: {count} photos to test on that {words}")
    if document.get("same_names"):
        lines.append(f"note: {document['same_names']} test photos bear names of people who are in the training photos")
    return lines


def _not_chosen(document: dict[str, Any]) -> list[str]:
    """SVMs whose backbone has learnt from the photos that C would be chosen on, or that lack people to choose it on."""
    fixed = {name: row["folds"][0] for name, row in document["methods"].items() if row["folds"]}
    return [
        f"{name}: C is {chosen['C']:g} and not chosen, as its backbone was trained on photos to fit on, or a label is "
        "of one person alone"
        for name, chosen in fixed.items()
        if "C" in chosen and chosen["chosen_on"] == "nothing"
    ]


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {label}" for label, count in counts.items()) or "nothing"


def budget_of(document: dict[str, Any]) -> str:
    """What every CNN may take, in words."""
    epochs, minutes = document["budget"]["epochs"], document["budget"]["minutes"]
    if epochs:
        return f"{epochs} epochs"
    return f"{minutes:g} minutes for each fit" if minutes else "the epochs of its own recipe"


def _seconds(document: dict[str, Any]) -> list[str]:
    """What an SVM's seconds leave out; they stand beside those of CNNs."""
    svms = any(name.partition(":")[0] == "svm" for name in document["methods"])
    return ["seconds of an SVM begin with stored vectors: making these is not in them"] if svms else []


def _too_few(document: dict[str, Any]) -> list[str]:
    first = next(iter(document["methods"].values()))  # all are tested on the same photos
    return [f"too few {first['resampled']} for intervals"] if first["all"]["intervals"]["accuracy"][0] is None else []


def _undertrained(document: dict[str, Any]) -> list[str]:
    return [
        f"{name}: undertrained, not ranked: {one['system']} publish {one['figure']:.4f} ({one['under']})"
        for name, row in document["methods"].items()
        if (one := row["undertrained"])
    ]


def _sizes(document: dict[str, Any]) -> list[str]:
    """Accuracy and squared error of each method by number of training photos."""
    if not document["sizes"]:
        return []
    rows = []
    for name in document["methods"]:
        row = {"method": name}
        for size in document["sizes"]:
            others = " of other people" if size["name"] == INDEPENDENT else ""
            title = f"{size['fitted_on']} to {size['tested_on']}{others}"
            own = size["methods"].get(name)
            row[title] = f"{own['spread']['accuracy']['mean']:.4f} (MSE {own['mse_half_sum']:.4f})" if own else "failed"
        rows.append(row)
    return ["accuracy (and half the summed squared error) by photos to fit on and to test on:", *_table(rows)]


def _published(document: dict[str, Any]) -> list[str]:
    """The literature's figures, and ours where the same system ran by a protocol that can be held against them."""
    if not document["published"]:
        return []
    rows = []
    for one in document["published"]:
        own = document["methods"].get(one["method"])
        same = own and own["held_against"] and one["protocol"] == own["held_against"]
        rows.append(
            {
                "published": f"{one['system']} {one['year']}",
                "accuracy": f"{one['figure']:.4f}",
                "ours": f"{own['spread']['accuracy']['mean']:.4f}" if same else "",
                "confidence": one["confidence"],
                "measured": f"{one['database']}: {one['under']}",
            }
        )
    return ["published (V: read in the paper or its code, V2: as reported by others, R: recalled):", *_table(rows)]


def _table(rows: list[dict[str, str]]) -> list[str]:
    """A table; columns that say nothing in this comparison are left out."""
    titles = [title for title in rows[0] if any(row[title] for row in rows)]
    return aligned([titles, *([row[title] for title in titles] for row in rows)])


def _cells(name: str, row: dict[str, Any]) -> dict[str, str]:
    """By title; empty where there is nothing to say."""
    part, spread, cost = row["all"], row["spread"]["accuracy"], row["cost"]
    low, high = part["intervals"]["accuracy"]
    several = spread["sd"] is not None
    return {
        "rank": str(row["rank"] or "-"),
        "method": name,
        "accuracy": f"{part['accuracy']:.4f}",
        "95 % interval": "" if low is None else f"{low:.4f}-{high:.4f}",
        "of found faces": f"{row['found']['accuracy']:.4f}" if 0 < row["coverage"] < 1 else "",
        "of new photos": f"{row['new']['accuracy']:.4f}" if row["new"] else "",
        "mean +- sd of runs": f"{spread['mean']:.4f} +- {spread['sd']:.4f} ({len(row['runs'])})" if several else "",
        "UAR": f"{part['uar']:.4f}",
        "macro-F1": f"{part['macro_f1']:.4f}",
        "MSE": f"{part['mse_per_output']:.4f}",
        "coverage": f"{row['coverage']:.4f}",
        "parameters": f"{cost['parameters']:,}" if cost else "",
        "multiply-adds": f"{cost['multiply_adds']:,}" if cost else "",
        "epochs": _epochs(row["runs"]),
        "fit s": f"{row['fit_seconds']:.1f}",
        "predict s": f"{row['predict_seconds']:.2f}",
    }


def _epochs(runs: list[dict[str, Any]]) -> str:
    """How many epochs were trained, the fewest and the most of all runs; empty for an SVM."""
    ends = sorted({min(run["epochs"] for run in runs), max(run["epochs"] for run in runs)})
    return "-".join(map(str, ends)) if ends[-1] else ""
