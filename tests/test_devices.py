"""Precision `auto`, batches that run beside one another, and what a device has and is current for."""

import contextlib
import os
import re
import threading
from contextlib import contextmanager
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from featurepipe.devices import autocast, has_bf16, prepared, resolve_precision, widest_float
from featurepipe.features.backbones import load_backbone
from featurepipe.features.forwarding import Forwarder
from featurepipe.machine import cores
from featurepipe.models import recorded
from featurepipe.models.recorded import Recorded

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx512_f": True, "avx2": True}, "fp32")],
)
def test_auto_takes_bf16_where_the_processor_multiplies_in_it(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert resolve_precision("auto", CPU) == expected
    assert resolve_precision("auto", CPU, ("fp32",)) == "fp32"
    assert resolve_precision("fp32", CPU) == "fp32"
    assert load_backbone("fer-vgg", device="cpu").made_with == {"device": "cpu", "precision": expected}


def test_bf16_is_asked_of_the_gpu_that_is_meant(monkeypatch):
    current = [0]

    @contextmanager
    def switched(device):
        current.append(device.index)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "device", switched)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: current[-1] == 1)
    assert [has_bf16(torch.device("cuda", number)) for number in (0, 1)] == [False, True]


@pytest.mark.parametrize(
    "text",
    [
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 2 bytes",
        "DefaultCPUAllocator: not enough memory: you tried to allocate 2 bytes",
        "CUDA out of memory. Tried to allocate 2.00 GiB\nand more",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_too_little_memory_in_a_backbone_is_a_memory_error(monkeypatch, text):
    backbone = load_backbone("hog", device="cpu")
    crops = np.zeros((1, *backbone.framing.shape), np.uint8)
    monkeypatch.setattr(backbone, "forward", Mock(side_effect=RuntimeError(text)))
    with pytest.raises(MemoryError, match=re.escape(text.splitlines()[0])):
        backbone(crops)
    monkeypatch.setattr(backbone, "forward", Mock(side_effect=RuntimeError("other trouble")))
    with pytest.raises(RuntimeError, match="other trouble"):
        backbone(crops)


def test_weights_are_rounded_once_and_norms_stay_exact():
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    exact = network[0].weight.detach().clone()
    made = prepared(network, CPU, "bf16")
    assert torch.equal(made[0].weight, exact.to(torch.bfloat16))
    assert made[1].weight.dtype == torch.float32
    assert not made.training


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "20000 100000\n"}, 1),
        ({"cpu.max": "9900000 100000\n"}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "?"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({}, 8),
    ],
)
def test_cores_are_as_many_as_a_container_may_use(files, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cores(tmp_path) == expected


class Doubling:
    """Gives a batch's first row twice over; the first batch waits until the second one is there."""

    threads = 2

    def __init__(self):
        self.second = threading.Event()

    def __call__(self, crops):
        assert torch.get_num_threads() == 1
        if crops[0] == 0:
            assert self.second.wait(10)
        self.second.set()
        return 2 * crops


def test_batches_run_side_by_side_and_come_back_in_order():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with Forwarder[str](Doubling()) as forwarder:
            first = [forwarder.submit(np.full(3, number), ["a", "b"]) for number in range(3)]
            rest = [forwarder.oldest(), forwarder.oldest(), forwarder.oldest()]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert first[:2] == [None, None]
    came = [first[2], *rest[:2]]
    assert [batch.vectors.tolist() for batch in came] == [[0, 0], [2, 2], [4, 4]]
    assert came[0].labels == ["a", "b"]
    assert rest[2] is None


def tf32():
    """What fp32 is computed in on a GPU: matrix products, convolutions. These settings need no GPU."""
    return torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision


@pytest.fixture
def settings():
    """Puts PyTorch's settings back as they were."""
    before, older = tf32(), torch.get_float32_matmul_precision()
    yield
    torch.backends.fp32_precision = "none"
    torch.set_float32_matmul_precision(older)
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision = before


@pytest.mark.parametrize(
    "ask",
    [
        lambda: None,
        lambda: torch.set_float32_matmul_precision("medium"),
        lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
        lambda: setattr(torch.backends, "fp32_precision", "tf32"),
        lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
    ],
    ids=["nothing", "older", "old", "new", "new, products"],
)
def test_tf32_is_off_within_whatever_the_program_has_asked_for(settings, ask):
    ask()
    before = tf32()
    with autocast(torch.device("cuda"), "fp32"):
        assert tf32() == ("ieee", "ieee")
        # PyTorch compares its older and newer settings in every product, and raises where they differ.
        assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.backends.cudnn.allow_tf32
    assert tf32() == before


def test_tf32_stays_off_until_the_last_thread_has_left(settings):
    before, entered, leave = tf32(), threading.Event(), threading.Event()

    def other():
        with autocast(torch.device("cuda"), "fp32"):
            entered.set()
            assert leave.wait(10)

    thread = threading.Thread(target=other)
    with autocast(torch.device("cuda"), "fp32"):
        thread.start()
        assert entered.wait(10)
    assert tf32() == ("ieee", "ieee")
    leave.set()
    thread.join()
    assert tf32() == before


@pytest.mark.parametrize(
    ("name", "widest"), [("cpu", torch.float64), ("cuda:1", torch.float64), ("mps", torch.float32)]
)
def test_apples_gpus_have_no_float64(name, widest):
    assert widest_float(torch.device(name)) == widest


def test_steps_are_recorded_and_repeated_on_the_gpu_that_they_are_of(monkeypatch):
    """With --device cuda:1 the work was recorded on cuda:0; stand-ins show which GPU is current at each moment."""
    current, moments = ["cuda:0"], []

    @contextlib.contextmanager
    def on(device):
        current.append(str(device))
        yield
        current.pop()

    @contextlib.contextmanager
    def recording(graph, stream):
        moments.append(("recorded", current[-1], stream))
        yield

    class Graph:
        def register_generator_state(self, generator):
            pass

        def replay(self):
            moments.append(("replayed", current[-1]))

    for name, stand_in in {"device": on, "graph": recording, "CUDAGraph": Graph, "Stream": str}.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    step = Recorded(lambda argument: argument + 1, torch.Generator())
    for _ in range(recorded.WARM_CALLS + 1):
        step(torch.zeros(2))
    assert moments == [("recorded", "cpu", "cpu"), ("replayed", "cpu")]
    recorded._stream_of.cache_clear()
