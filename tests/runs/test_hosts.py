"""Ranks on two "hosts", each with an address of its own on loopback, train as one process does.

Started by torchrun and, with the variables that srun sets, as SLURM would start them.
"""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

Train = Callable[..., Path]
TERMS = (
    "train/loss",
    "train/pixel",
    "train/ssim",
    "train/distill",
    "train/distill/output",
    "train/grad_norm",
)
HOSTS = ("127.0.0.2", "127.0.0.3")
GLOBAL_BATCH = 8


@pytest.fixture(scope="module")
def common(tiny: list[str], teacher: Path) -> list[str]:
    """A distillation with an adapter; 5 pictures to train on, 5 to validate on: uneven for 2 ranks."""
    own = (
        "net.width",
        "data.val_fraction",
        "trainer.max_steps",
        "trainer.val_check_interval",
        "data.batch_size",
        "trainer=",
    )
    kept = [override for override in tiny if not override.startswith(own)]
    return [
        *kept,
        "experiment=distill",
        "distillation=[output,feature]",
        "net.width=6",
        f"teacher.path={teacher}",
        "data.val_fraction=0.3",
        "runtime.matmul_precision=highest",
        "runtime.trusted_packages=[ranks_probe]",
    ]


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], str]:
    """``probe(folder)``: the override that adds the callback of ranks_probe.py, in all processes."""
    here = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(here)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])]))
    return lambda folder: f"+callbacks.probe={{_target_:ranks_probe.RanksProbe,folder:'{folder}'}}"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOSTS[0], 0))
        return int(listener.getsockname()[1])


def _all_end_well(commands: Sequence[tuple[list[str], dict[str, str]]], folder: Path) -> None:
    """Start the commands, each with further variables of its environment, at once, and wait for all."""
    outputs = [(folder / f"{index}.log").open("w+") for index in range(len(commands))]
    processes = [
        subprocess.Popen(
            command, cwd=folder, env={**os.environ, **more}, stdout=log, stderr=subprocess.STDOUT
        )
        for (command, more), log in zip(commands, outputs, strict=True)
    ]
    try:
        for process, log in zip(processes, outputs, strict=True):
            code = process.wait(280)
            log.seek(0)
            assert code == 0, log.read()
    finally:
        for process, log in zip(processes, outputs, strict=True):
            process.kill()
            process.wait()
            log.close()


def _train(folder: Path, *overrides: str) -> list[str]:
    return ["-m", "sharpkd.train", *overrides, f"paths.output_root={folder}", "run=hosts"]


def _by_torchrun(folder: Path, ranks_each: int, *overrides: str) -> None:
    """Train over two hosts; each agent rendezvouses at the first one's address and listens at its own."""
    port = _free_port()
    start = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--nproc-per-node={ranks_each}"]
    start += ["--rdzv-backend=c10d", f"--rdzv-endpoint={HOSTS[0]}:{port}", "--rdzv-id=hosts"]
    settings = ["trainer=ddp_spawn_cpu", "trainer.num_nodes=2", f"trainer.devices={ranks_each}"]
    hosts = [[*start, f"--local-addr={host}"] for host in HOSTS]
    hosts[0].append("--rdzv-conf=is_host=1")
    hosts[1].append("--rdzv-conf=is_host=0")
    more = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    _all_end_well([([*host, *_train(folder, *settings, *overrides)], more) for host in hosts], folder)


def _by_slurm(folder: Path, *overrides: str) -> None:
    """Train as two tasks on two nodes, in the environment that srun gives them."""
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1"}
    job |= {"SLURM_JOB_NODELIST": "127.0.0.[2-3]", "SLURM_NODELIST": "127.0.0.[2-3]", "SLURM_NNODES": "2"}
    job |= {"MASTER_PORT": str(_free_port()), "GLOO_SOCKET_IFNAME": "lo"}
    settings = ["trainer=ddp_spawn_cpu", "trainer.num_nodes=2", "trainer.devices=1"]
    command = [sys.executable, *_train(folder, *settings, *overrides)]
    tasks = [
        {"SLURM_PROCID": str(rank), "SLURM_NODEID": str(rank), "SLURM_LOCALID": "0"} for rank in range(2)
    ]
    _all_end_well([(command, {**job, **task}) for task in tasks], folder)


def _rows(run: Path, column: str) -> list[float]:
    with (run / "logs" / "metrics.csv").open() as stream:
        return [float(row[column]) for row in csv.DictReader(stream) if row.get(column)]


def _seen(folder: Path, rank: int) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / f"rank{rank}.json").read_text())
    return content


def _held(folder: Path, rank: int, part: str) -> dict[str, Tensor]:
    content: dict[str, Tensor] = torch.load(folder / f"rank{rank}.pt", weights_only=True)[part]
    return content


def _largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


def _same_training(one: Path, several: Path, folder: Path, ranks: int) -> None:
    """Loss terms, first gradients and last weights of a training in one process and in several."""
    for term in TERMS:
        assert _rows(several, term) == pytest.approx(_rows(one, term), rel=1e-4, abs=1e-6), term
    single, weights = folder / "single", _held(folder / "single", 0, "weights")
    for rank in range(ranks):
        assert _largest_difference(_held(folder / "ranks", rank, "weights"), weights) < 1e-5
        first = _held(folder / "ranks", rank, "first")
        assert _largest_difference(first, _held(single, 0, "first")) < 1e-5
        assert any(name.startswith("transfer.") for name in first), "the adapter is trained too"
    assert all(value.abs().max() > 1e-4 for name, value in first.items() if name.endswith("weight"))


def test_two_hosts_train_as_one_process_does(
    train_here: Train, common: list[str], probe: Callable[[Path], str], teacher: Path, tmp_path: Path
) -> None:
    """Twenty SGD steps on the same global batches; who sends what; and validation on 5 images by 2 ranks."""
    settings = [*common, "optimizer=sgd", "trainer.max_steps=20", "trainer.val_check_interval=10"]
    single, ranks = tmp_path / "single", tmp_path / "ranks"
    one = train_here("one", *settings, "trainer=cpu", f"data.batch_size={GLOBAL_BATCH}", probe(single))
    _by_torchrun(tmp_path, 1, *settings, f"data.batch_size={GLOBAL_BATCH // 2}", probe(ranks))
    two = tmp_path / "distill" / "hosts"
    assert len(_rows(two, "train/loss")) == 20
    _same_training(one, two, tmp_path, 2)

    seen = [_seen(ranks, rank) for rank in range(2)]
    trained = sum(value.numel() for value in _held(single, 0, "first").values())
    assert sum(value.numel() for value in load_file(teacher).values()) > 1000
    for rank in seen:
        assert rank["sent"] == [trained] * 20, "the teacher's parameters are in no bucket"
        assert not [name for name in rank["buffers"] if "teacher" in name]

    (all_images, _) = _seen(single, 0)["validated"]
    assert len(all_images) == 5
    for validation in range(2):
        shares = [rank["validated"][validation] for rank in seen]
        assert [len(share) for share in shares] == [3, 2]
        assert sorted([*shares[0], *shares[1]]) == sorted(all_images)
    for metric in ("val/psnr", "val/ssim", "val/pixel"):
        assert _rows(two, metric) == pytest.approx(_rows(one, metric), rel=1e-5), metric


def test_slurm_tasks_give_adam_the_same_first_gradients(
    train_here: Train, common: list[str], probe: Callable[[Path], str], tmp_path: Path
) -> None:
    settings = [*common, "optimizer=adam", "trainer.max_steps=1", "trainer.val_check_interval=1"]
    single, ranks = tmp_path / "single", tmp_path / "ranks"
    one = train_here("one", *settings, "trainer=cpu", f"data.batch_size={GLOBAL_BATCH}", probe(single))
    _by_slurm(tmp_path, *settings, f"data.batch_size={GLOBAL_BATCH // 2}", probe(ranks))
    for rank in range(2):
        difference = _largest_difference(_held(ranks, rank, "first"), _held(single, 0, "first"))
        assert difference < 1e-5
    for term in TERMS:
        expected = _rows(one, term)
        assert len(expected) == 1
        assert _rows(tmp_path / "distill" / "hosts", term) == pytest.approx(expected, rel=1e-5), term


@pytest.mark.torture
def test_four_ranks_with_accumulated_gradients(
    train_here: Train, common: list[str], probe: Callable[[Path], str], tmp_path: Path
) -> None:
    """Two hosts of two ranks that add up two batches of two: a step sees 16 crops, as in one process."""
    settings = [*common, "optimizer=sgd", "trainer.max_steps=20", "data.crops_per_image=10"]
    single, ranks = tmp_path / "single", tmp_path / "ranks"
    whole = ["trainer=cpu", "data.batch_size=16", "trainer.val_check_interval=4"]
    one = train_here("one", *settings, *whole, probe(single))
    parts = ["data.batch_size=2", "trainer.accumulate_grad_batches=2", "trainer.val_check_interval=8"]
    _by_torchrun(tmp_path, 2, *settings, *parts, probe(ranks))
    weights = _held(single, 0, "weights")
    for rank in range(4):
        assert _largest_difference(_held(ranks, rank, "first"), _held(single, 0, "first")) < 1e-5
        assert _largest_difference(_held(ranks, rank, "weights"), weights) < 1e-5
        # gradients travel once a step, not once a batch
        trained = sum(value.numel() for value in _held(ranks, rank, "first").values())
        assert _seen(ranks, rank)["sent"] == [trained] * 20
    assert (tmp_path / "distill" / "hosts" / "net.safetensors").is_file()
    assert (one / "net.safetensors").is_file()
