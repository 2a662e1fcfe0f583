"""Everything that a lent GPU trains, in lanes side by side; README.md beside this file says when.

Environment: WORK (folder), FER2013 (NPZ), BEGIN and DEADLINE (seconds since 1970), EPOCH (seconds of one of fer-vgg
alone); TINY=1 tries it on a CPU. `train.py` controls, `train.py lane NAME` runs WORK/NAME.json, `train.py pack` fills
$OUT.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

WORK, TINY = Path(os.environ.get("WORK", "/root/work")), bool(os.environ.get("TINY"))
SHIPPED = "featurepipe/shipped/fer-vgg.safetensors"
KEPT = "weights/fer2013-results"
"""Results of compare that need no fitting."""
SETS, SET_EPOCHS, ROW_EPOCHS = (31, 32), 16, 12
STRONG = {"scale": 0.25, "rotation": 15.0, "erase": 0.5, "shift": 5.0}
ROWS: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    "base": ({}, {}),
    "sharpness": ({"sharpness": 0.1}, {}),
    "mixup": ({"mixup": 0.3}, {}),
    "strong": ({}, STRONG),
    "last-weights": ({"average": 0.0}, {}),
    "long-average": ({"average": 0.9995}, {}),
    "half-width": ({"network": {"width": 0.5}}, {}),
    "step": ({"schedule": "step"}, {}),
    "margin": ({"loss": "squared-hinge"}, {}),
}
"""Of the ablation, by name: what differs in the recipe, and in its augmentation."""
GAIN = 0.003
"""Share of the unseen half that a change must bring to be taken over."""
CNNS = ("agrawal_b", "agrawal_a", "mollahosseini_inception", "ednn", "dlsvm", "seed_cnn", "fer-vgg")

Job = tuple[str, list[str]]


def say(text: str) -> None:
    line = f"{time.time() - float(os.environ['BEGIN']):6.0f} {text}"
    print(line, flush=True)
    with open(WORK / "progress.txt", "a") as file:
        file.write(line + "\n")


def lane(name: str) -> None:
    """One command after the other in this process; one that fails stops no other."""
    from featurepipe.cli import main

    for job, arguments in json.loads((WORK / f"{name}.json").read_text()):
        begun = time.time()
        with (
            open(log_of(job), "w", buffering=1) as log,
            contextlib.redirect_stdout(log),
            contextlib.redirect_stderr(log),
        ):
            try:
                code: Any = main(arguments)
            except BaseException as error:  # noqa: BLE001
                traceback.print_exc(file=log)
                code = repr(error)
        say(f"{job}: {code}, {time.time() - begun:.0f} s")


def start(name: str, jobs: list[Job]) -> subprocess.Popen[bytes]:
    (WORK / f"{name}.json").write_text(json.dumps(jobs))
    return subprocess.Popen([sys.executable, __file__, "lane", name])


def log_of(job: str) -> Path:
    return WORK / "log" / f"{job}.log"


def fit(name: str, recipe: dict[str, Any], augmentation: dict[str, float], *more: str) -> Job:
    """A fit_cnn of fer-vgg; its crops lie in a table of their own, so that lanes do not wait for each other."""
    if TINY:
        own = recipe.get("network", {})
        recipe = {**recipe, "epochs": min(2, recipe["epochs"]), "batch_size": 32, "network": {"width": 0.125, **own}}
    tables = {"augmentation": augmentation, "network": recipe.get("network", {})}
    lines = [f"{key} = {json.dumps(value)}" for key, value in recipe.items() if key != "network"]
    for title, table in tables.items():
        lines += [f"[{title}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    (WORK / f"{name}.toml").write_text("\n".join(lines) + "\n")
    options = {"arch": "fer-vgg", "recipe": f"{name}.toml", "table": f"{name}.faces", "model": f"{name}.model"}
    named = [
        word for key, value in options.items() for word in (f"--{key}", value if key == "arch" else str(WORK / value))
    ]
    return name, ["fit_cnn", os.environ["FER2013"], *named, "--precision", "fp32" if TINY else "bf16", *more]


def compare(method: str) -> Job:
    how = ["--protocol", "fer2013_standard", "--epochs", "1" if TINY else "30", "--published", "--methods", method]
    how += [] if TINY else ["--precision", "bf16"]  # as the results that are kept
    where = ["--out", str(WORK / "compared"), "--table", str(WORK / "compared.table")]
    return f"compare-{method}", ["compare", os.environ["FER2013"], *how, *where]


def unseen(row: str) -> float:
    """Mean share of the photos that a row's networks had not seen and told right."""
    lines = [line for line in log_of(f"row-{row}").read_text().splitlines() if "has not seen" in line]
    return float(np.mean([float(line.split("has not seen ")[1].split(";")[0]) for line in lines] or [0.0]))


def helpful() -> set[str]:
    shares = {row: unseen(row) for row in ROWS}
    say(f"unseen {json.dumps({row: round(share, 4) for row, share in shares.items()})}")
    return {row for row in ("sharpness", "mixup", "strong", "long-average") if shares[row] > shares["base"] + GAIN}


def students(taken: set[str], epochs: int) -> list[list[Job]]:
    """From what ships with what helped; from nothing, without sharpness; from what ships at a constant rate."""
    soft = ["--half", "--soft-labels", *(str(WORK / f"teachers-{seed}.model") for seed in SETS)]
    shipped = [] if TINY else ["--init", SHIPPED]
    taught = plain = {"label_smoothing": 0.0, "soft_weight": 0.7}
    for row in taken - {"sharpness", "strong"}:
        taught = taught | ROWS[row][0]
    augmentation, half = (STRONG if "strong" in taken else {}), "sharpness" in taken
    flat = {**taught, **(ROWS["sharpness"][0] if half else {}), "epochs": epochs // (1 + half), "lr": 0.03}
    constant = {**plain, "epochs": epochs, "lr": 0.02, "schedule": "constant", "average": 0.9998}
    return [
        [fit("student-1", flat, augmentation, *shipped, *soft, "--seed", "41")],
        [fit("student-2", {**taught, "epochs": epochs}, augmentation, *soft, "--seed", "42")],
        [fit("student-3", constant, {}, *shipped, *soft, "--seed", "43")],
    ]


def control() -> None:
    (WORK / "log").mkdir(parents=True, exist_ok=True)
    shutil.copytree(KEPT, WORK / "compared/results", dirs_exist_ok=True)
    sets = [fit(f"teachers-{seed}", {"epochs": SET_EPOCHS}, {}, "--folds", "5", "--seed", str(seed)) for seed in SETS]
    rows = [
        fit(f"row-{row}", {"epochs": ROW_EPOCHS, **recipe}, augmentation, "--folds", "2", "--seed", "5")
        for row, (recipe, augmentation) in ROWS.items()
    ]
    begun, compared = time.time(), start("compare", [compare(method) for method in (CNNS[:1] if TINY else CNNS)])
    teaching, ablation = start("teachers", sets), start("rows", rows)
    teaching.wait()
    shared = (time.time() - begun - 12) / (len(SETS) * 4 * SET_EPOCHS) / 3  # folds are of four fifths; three lanes
    ablation.wait()
    left = float(os.environ["DEADLINE"]) - time.time() - 20
    lanes = 3 + (compared.poll() is None)
    epochs = max(20, int(0.88 * left / (lanes * max(shared, float(os.environ["EPOCH"])))))
    taken = helpful()
    say(f"{shared:.3f} s an epoch, {left:.0f} s left, {epochs} epochs for each of three, with {sorted(taken)}")
    running = [start(f"student-{at}", jobs) for at, jobs in enumerate(students(taken, epochs), 1)]
    for process in running:
        process.wait()
    score()
    compared.wait()
    say("ALL")


def score() -> None:
    """PublicTest with 1, 2 and 10 views, and without the copies of Training pictures, of each student."""
    from featurepipe import load_model, read_source

    samples = read_source(os.environ["FER2013"]).samples
    trained = {sample.pixels.tobytes() for sample in samples if sample.split == "train"}
    val = [sample for sample in samples if sample.split == "val"]
    new = np.array([sample.pixels.tobytes() not in trained for sample in val])
    faces, truth = np.stack([sample.pixels for sample in val]), np.array([sample.label for sample in val])
    found: dict[str, list[list[float]]] = {}
    for file in sorted(WORK.glob("student-?.model")):
        model = load_model(file)
        for model.views in (1, 2, 10):
            right = model.predict(faces) == truth
            found.setdefault(file.stem, []).append([round(float(right.mean()), 4), round(float(right[new].mean()), 4)])
        say(f"{file.stem} {found[file.stem]}")
    (WORK / "scores.json").write_text(json.dumps(found))


def pack() -> None:
    """Logs, soft labels of the teachers, results of compare, and the two best networks in halves, into $OUT."""
    out, scores = Path(os.environ["OUT"]), WORK / "scores.json"
    kept = [
        *WORK.glob("*.txt"),
        *WORK.glob("*.toml"),
        *WORK.glob("*.csv"),
        *WORK.glob("teachers-*.model"),
        *WORK.glob("log/*"),
    ]
    with tarfile.open(out / "rest.tar.gz", "w:gz") as tar:
        for file in [*kept, *WORK.glob("compared/results/*.npz")]:
            tar.add(file, file.relative_to(WORK))
    found = json.loads(scores.read_text()) if scores.exists() else {}
    for name in sorted(found, key=lambda one: -sum(new for _, new in found[one]))[:2]:
        data = (WORK / f"{name}.model").read_bytes()
        for at, part in enumerate((data[: len(data) // 2], data[len(data) // 2 :])):
            (out / f"{name}.{at}").write_bytes(part)
    print({file.name: file.stat().st_size for file in out.iterdir()})


if __name__ == "__main__":
    {"lane": lane, "pack": pack, "control": control}[(sys.argv[1:] or ["control"])[0]](*sys.argv[2:])
