"""`epoch.py FILE`: prints seconds of fer-vgg's epochs on as many faces as FER2013 has, in bf16; one goes to FILE."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from featurepipe.models.baselines.registry import BASELINES
from featurepipe.models.training import Trainer

baseline, rng = BASELINES["fer-vgg"], np.random.default_rng(0)
faces, targets = rng.integers(0, 256, (28709, *baseline.shape), np.uint8), rng.integers(0, 7, 28709)
for name, changes in (("as it is", {}), ("sharpness", {"sharpness": 0.1}), ("batches of 256", {"batch_size": 256})):
    recipe = replace(baseline.recipe, epochs=3, **changes)
    trainer = Trainer(baseline, recipe, 7, device=torch.device("cuda"), precision="bf16", seed=1)
    trainer.run(faces, targets)
    print(name, [(row["seconds"], round(row["loss"], 4)) for row in trainer.history], flush=True)
    if not changes:
        Path(sys.argv[1]).write_text(str(trainer.history[-1]["seconds"]))
