"""
What a targeted step costs
==========================

Ratios of the time that members of a network, their gradients and the whole latent ascent take to
the time of what one would write without this library, measured in one run, interleaved, as medians
of single-threaded processor time. The results go, with a description of the machine, to a CSV file.

Run with ``python examples/benchmark_ascent.py --root FOLDER_OF_MEDMNIST_FILES`` (about ten
minutes), or name the cases, as in ``--cases 1 2 3``.
"""

from __future__ import annotations

import argparse
import csv
import os
import pickle
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tsynd_sk import TargetedSynthesizer, __version__
from tsynd_sk.ascent import OBJECTIVES, ascend
from tsynd_sk.autoencoders import PatchAutoencoder
from tsynd_sk.classifiers import ConvNet
from tsynd_sk.datasets import load_medmnist
from tsynd_sk.members import DropoutMembers, EnsembleMembers
from tsynd_sk.uncertainty import mutual_information

K = 16
Row = tuple[str, str, float | str, str]


def log_softmax(logits: Tensor) -> Tensor:
    return logits.log_softmax(-1)


# %%
# Networks: dropout late, before the head of a ResNet-18, and after every convolution.


def late() -> nn.Module:
    return ConvNet((1, 28, 28), 2).eval()


def resnet() -> nn.Module:
    from torchvision.models import resnet18

    net = resnet18(num_classes=2)
    net.conv1, net.maxpool = nn.Conv2d(1, 64, 3, padding=1, bias=False), nn.Identity()
    net.fc = nn.Sequential(nn.Dropout(0.3), nn.Linear(512, 2))
    return net.eval()


def everywhere() -> nn.Module:
    net = late()
    blocks: list[nn.Module] = []
    for layer in net.features:
        blocks += [layer, nn.Dropout(0.1)] if isinstance(layer, nn.ReLU) else [layer]
    net.features = nn.Sequential(*blocks)
    return net.eval()


# %%
# What is timed: a gradient with respect to the images, single-threaded.


def gradient(value: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], object]:
    def run() -> object:
        images = x.clone().requires_grad_()
        return torch.autograd.grad(value(images).sum(), images)

    return run


def of_information(members: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda images: mutual_information(members(images))


def plain(net: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda images: log_softmax(net(images))[:, 0]


def stochastic_passes(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """Monte Carlo dropout as it is usually written."""

    def predict(images: Tensor) -> Tensor:
        for part in net.modules():
            part.training = isinstance(part, nn.Dropout)
        try:
            return torch.stack([log_softmax(net(images)) for _ in range(K)])
        finally:
            net.eval()

    return predict


def medians(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Processor seconds of each run, in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            start = time.process_time()
            run()
            if turn:
                seconds[name].append(time.process_time() - start)
    return {name: sorted(values)[len(values) // 2] for name, values in seconds.items()}


def against_passes(
    case: str, net: nn.Module, batch: int, repeats: int, **restrictions
) -> list[Row]:
    """Compare members with stochastic passes and with one plain pass."""
    net.requires_grad_(False)
    x = torch.rand(batch, 1, 28, 28)
    decisions: dict[str, dict] = {}
    members = {}
    for name, restrict in {"": None, **restrictions}.items():
        name, kept = f", {name}" if name else "", {}
        decisions[name] = kept
        members[name] = DropoutMembers(
            net, log_softmax, n_members=K, restrict=restrict, decisions=kept
        )
    runs = {
        "passes": gradient(of_information(stochastic_passes(net)), x),
        "plain": gradient(plain(net), x),
        **{name: gradient(of_information(one), x) for name, one in members.items()},
    }
    seconds = medians(runs, repeats)
    rows: list[Row] = [(case, "one plain pass", 1e3 * seconds["plain"], "ms")]
    for name in members:
        rows += [
            (case, f"gradient of MI{name}", 1e3 * seconds[name], "ms"),
            (case, f"decision{name}", *decisions[name].values(), ""),
            (case, f"K passes / members{name}", seconds["passes"] / seconds[name], "ratio"),
            (case, f"members{name} / one plain pass", seconds[name] / seconds["plain"], "ratio"),
        ]
    return rows


def case_1() -> list[Row]:
    return against_passes("1 dropout late", late(), 64, 15)


def case_2() -> list[Row]:
    return against_passes("2 ResNet-18", resnet(), 16, 5)


def case_3() -> list[Row]:
    return against_passes("3 dropout everywhere", everywhere(), 64, 9, restricted_to_the_last_two=2)


def case_4() -> list[Row]:
    nets = [late().requires_grad_(False) for _ in range(5)]
    x = torch.rand(64, 1, 28, 28)
    members = EnsembleMembers(nets, [log_softmax] * 5)
    runs = {
        "passes": gradient(
            of_information(lambda images: torch.stack([log_softmax(net(images)) for net in nets])),
            x,
        ),
        "members": gradient(of_information(members), x),
    }
    seconds = medians(runs, 9)
    ratio = seconds["passes"] / seconds["members"]
    return [("4 ensemble of five", "five passes / members", ratio, "ratio")]


def whole_ascent(members: Any, decoder: nn.Module, n: int, objective: str) -> Callable:
    z_0 = torch.randn(n, *decoder.encode(torch.rand(1, 1, 28, 28)).shape[1:])
    y = torch.zeros(n, dtype=torch.int64)
    return lambda: ascend(
        members,
        decoder.decode,
        z_0,
        y,
        objective=OBJECTIVES[objective],
        max_iter=10,
    )


def case_5() -> list[Row]:
    net = late().requires_grad_(False)
    decoder = PatchAutoencoder.from_data(torch.rand(100, 1, 28, 28), None).eval()
    decoder.requires_grad_(False)
    members = DropoutMembers(net, log_softmax, n_members=K)
    one = EnsembleMembers([net], [log_softmax])
    runs = {
        "one": whole_ascent(one, decoder, 64, "entropy"),
        "members": whole_ascent(members, decoder, 64, "mutual_info"),
    }
    seconds = medians(runs, 9)
    case = "5 whole ascent, 10 steps"
    return [
        (case, "64 images", seconds["members"], "s"),
        (case, "16 members / one deterministic", seconds["members"] / seconds["one"], "ratio"),
    ]


def fitted(root: Path, **params: Any) -> tuple[TargetedSynthesizer, Any]:
    images = load_medmnist("breastmnist", root=root, download=False)
    synthesizer = TargetedSynthesizer(random_state=0, **params)
    return synthesizer.fit(images.X[:100], images.y[:100]), images.X


_SAMPLE = """
import pickle, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
synthesizer = pickle.load(open(sys.argv[1], "rb"))
synthesizer.sample(256)
start = time.perf_counter(), time.process_time()
X, _ = synthesizer.set_params(n_jobs=int(sys.argv[3])).sample(int(sys.argv[2]))
seconds = time.perf_counter() - start[0], time.process_time() - start[1]
# Not ru_maxrss, which a process inherits from the one that started it.
lines = Path("/proc/self/status").read_text().splitlines()
(peak,) = (int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
print(peak, X.nbytes / 2**20, *seconds)
"""


class Sampling(NamedTuple):
    """Peak MiB beyond the output, and seconds."""

    peak: float
    wall: float
    processor: float


def in_process(synthesizer: TargetedSynthesizer, n: int, n_jobs: int = 1) -> Sampling:
    """Sample in a process of its own (on Linux, for its memory is read there)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "synthesizer.pkl"
        path.write_bytes(pickle.dumps(synthesizer))
        command = [sys.executable, "-c", _SAMPLE, str(path), str(n), str(n_jobs)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    peak, size, wall, processor = map(float, output.split())
    return Sampling(peak - size, wall, processor)


def case_6(root: Path) -> list[Row]:
    synthesizer, _ = fitted(root)
    case, rows, peaks = "6 memory and rows", [], {}
    for n in (1_000, 50_000):
        sampling = in_process(synthesizer, n)
        peaks[n] = sampling.peak
        rows += [
            (case, f"peak beyond the output, {n} rows", peaks[n], "MiB"),
            (case, f"speed, {n} rows", n / sampling.processor, "rows / s"),
        ]
    return [*rows, (case, "peak, 50000 / 1000 rows", peaks[50_000] / peaks[1_000], "ratio")]


def case_7(root: Path) -> list[Row]:
    synthesizer, _ = fitted(root)
    case = "7 jobs and accelerators"
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(3):
        for n_jobs, values in seconds.items():
            values.append(in_process(synthesizer, 4_000, n_jobs).wall)
    ratio = sorted(seconds[1])[1] / sorted(seconds[2])[1]
    rows: list[Row] = [(case, "4000 rows, 1 job / 2 jobs, wall clock", ratio, "ratio")]
    if torch.cuda.is_available():
        for name, make in (("dropout late", late), ("ResNet-18", resnet)):
            rows += on_accelerator(f"{case}, {name}", make())
    return rows


def on_accelerator(case: str, net: nn.Module) -> list[Row]:
    """Images per second of the gradient of MI at the best batch size."""
    net = net.cuda().requires_grad_(False)
    members = DropoutMembers(net, log_softmax, n_members=K)

    def speed(value: Callable[[Tensor], Tensor], batch: int) -> float:
        run = gradient(value, torch.rand(batch, 1, 28, 28, device="cuda"))
        seconds = []
        for _ in range(12):
            torch.cuda.synchronize()
            start = time.perf_counter()
            run()
            torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        return batch / sorted(seconds)[len(seconds) // 2]

    batches = [2**i for i in range(6, 14)]
    ours, batch = max((speed(of_information(members), batch), batch) for batch in batches)
    one = max(speed(plain(net), batch) for batch in batches)
    return [
        (case, f"gradient of MI, batch {batch}", ours, "images / s"),
        (case, "share of one plain pass's throughput", ours / one, "ratio"),
    ]


# %%
# The machine, and the file.


def machine() -> list[Row]:
    """Describe the machine."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    facts = dict(line.split("\t: ", 1) for line in lines if "\t: " in line)
    facts = {name.strip(): value for name, value in facts.items()}
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    values = {
        "processor": facts.get("model name", platform.processor()),
        "cores": str(os.cpu_count()),
        "accelerator": accelerator,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "tsynd_sk": __version__,
        "threads": str(torch.get_num_threads()),
    }
    return [("machine", name, value, "") for name, value in values.items()]


CASES = {name[5:]: case for name, case in globals().items() if name.startswith("case_")}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a targeted step costs.")
    parser.add_argument("--root", type=Path, help="folder with breastmnist.npz, for cases 6 and 7")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--output", type=Path, default=Path("benchmark_ascent.csv"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    results = read(options.output)
    for name in ("machine", *options.cases):
        if name != "machine" and int(name) >= 6 and options.root is None:
            print(f"case {name} is left out: it needs --root")
            continue
        arguments = (options.root,) if name != "machine" and int(name) >= 6 else ()
        rows = machine() if name == "machine" else CASES[name](*arguments)
        results[name] = [
            [f"{part:.4g}" if isinstance(part, float) else part for part in row] for row in rows
        ]
        for row in results[name]:
            print(*row, sep=" | ", flush=True)
        # What is measured is not lost if a later case fails.
        write(options.output, results)


def read(path: Path) -> dict[str, list]:
    """Read the cases of an earlier run, which stay as they are unless they are measured again."""
    results: dict[str, list] = {}
    if path.exists():
        with path.open(newline="") as file:
            for row in list(csv.reader(file))[1:]:
                results.setdefault(row[0].split()[0], []).append(row)
    return results


def write(path: Path, results: dict[str, list]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("case", "quantity", "value", "unit"))
        for name in ("machine", *CASES):
            writer.writerows(results.get(name, []))


if __name__ == "__main__":
    main()
