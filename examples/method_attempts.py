"""
What was tried to make synthesis better
=======================================

Each attempt is a way to synthesise on top of standard augmentation: another radius, other sources,
other mixtures of targeted and random displacement. Some need more than parameters; they take the
place of the engine's own synthesis for one training, and are written out below.

The labelled training images of each set are divided once into halves. Attempts are chosen on the
first: 100 images are drawn from it to train on, and the images left over are scored. The second
half is for one confirmation of what was chosen (``--half confirm``). No test split is looked at.

.. code-block:: console

   $ python examples/method_attempts.py run --root FOLDER_OF_NPZ_FILES
   $ python examples/method_attempts.py report --table docs/evidence/attempts.csv

A run is a row of a CSV file, written the moment it is known; what was interrupted goes on.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator
from contextlib import closing
from copy import copy
from pathlib import Path
from time import process_time
from typing import NamedTuple
from unittest import mock

import numpy as np
from joblib import Parallel, delayed
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from tsynd_sk.autoencoders import PatchAutoencoder
from tsynd_sk.comparison import Arm, load_splits
from tsynd_sk.datasets import subsample
from tsynd_sk.evaluation import adversarial_scores, classification_scores, corruption_scores
from tsynd_sk.synthesis._engine import Engine
from tsynd_sk.uncertainty import mean_log_proba

Row = dict[str, str | int | float]

SETS = ("breastmnist", "pneumoniamnist", "retinamnist", "textures64", "chest64", "brain64")
N_LABELS = 100
# About 1,000 gradient steps: seven an epoch in the warm-up, eleven after it.
EPOCHS = 100
HALVES = ("choose", "confirm")
# Images that are corrupted and attacked; clean scores are of all that are left over.
N_PERTURBED = 200
SCORES = ("balanced_accuracy", "roc_auc", "nll", "corrupted_auc", "pgd")
CSV = Path(__file__).with_suffix(".csv")

_synthesize = Engine.synthesize


# %%
# Ways to synthesise that are not in the library: each takes the arguments of ``Engine.synthesize``.


def plainly(engine, params, X, codes, occurrence, rng, empty=np.empty):
    return _synthesize(engine, params, X, codes, occurrence, rng, empty)


def follow_labels(engine, params, X, codes, occurrence, rng, empty=np.empty):
    """Widen the radius while members keep 85 % of the labels that they have, else narrow it."""
    X_new, info = _synthesize(engine, params, X, codes, occurrence, rng, empty)
    x = engine.image_format.to_tensor(X[:])
    had = (mean_log_proba(engine.members(params, 0)(x)).argmax(-1).numpy() == codes).nonzero()[0]
    kept = np.mean(info["label_agreement"][had]) if len(had) else 0
    params.radius = float(np.clip(params.radius * (1.25 if kept > 0.85 else 0.8), 0.02, 0.5))
    return X_new, info


def half_random(engine, params, X, codes, occurrence, rng, empty=np.empty):
    """Displace every second row at random."""
    at_random = copy(params)
    at_random.objective = "random"
    parts = [
        _synthesize(engine, p, X[:][k::2], codes[k::2], occurrence[k::2], rng, empty)
        for k, p in enumerate((params, at_random))
    ]
    X_new = np.empty((len(codes), *parts[0][0].shape[1:]), parts[0][0].dtype)
    info = {name: np.empty(len(codes), column.dtype) for name, column in parts[0][1].items()}
    for k, (images, columns) in enumerate(parts):
        X_new[k::2] = images
        for name in info:
            info[name][k::2] = columns[name]
    return X_new, info


def uncertain_sources(
    engine, params, X, codes, occurrence, rng, empty=np.empty, then: Callable = plainly
):
    """Start from those images of each class that members disagree about most."""
    uncertainty = engine.uncertainty(params, engine.images)
    rows = np.empty(len(codes), int)
    for code in np.unique(codes):
        pool, wanted = np.flatnonzero(engine.codes == code), np.flatnonzero(codes == code)
        weights = uncertainty[pool] + 1e-6
        n = min(len(wanted), len(pool))
        drawn = rng.choice(len(pool), n, replace=False, p=weights / weights.sum())
        rows[wanted] = np.resize(pool[drawn], len(wanted))
    return then(engine, params, engine.images[rows], codes, occurrence, rng, empty)


def uncertain_sources_following_labels(*args):
    """Start from uncertain images, at a radius that follows the labels."""
    return uncertain_sources(*args, then=follow_labels)


class Attempt(NamedTuple):
    """One way to synthesise: parameters, and a function in place of the engine's."""

    objective: str | None
    synthesizer: dict = {}
    classifier: dict = {}
    autoencoder: dict = {}
    synthesize: Callable = plainly

    def arm(self) -> Arm:
        return Arm(
            "standard",
            self.objective,
            self.synthesizer,
            self.classifier,
            autoencoder=self.autoencoder,
        )


# From these the search began, and here it ended.
FIRST = {"radius": 0.25, "max_iter": 3, "label_policy": "keep"}
ONE_STEP = {**FIRST, "max_iter": 1}
LAST = {"radius": 0.5, "max_iter": 1, "label_policy": "constrain"}
EVENED_OUT = {"synthetic_ratio": "balanced"}
TRAINED = {"module": PatchAutoencoder, "max_epochs": 20}

REFERENCE = "standard"
ATTEMPTS = {
    REFERENCE: Attempt(None),
    "random, 0.25": Attempt("random", FIRST),
    "random, 0.5": Attempt("random", {**FIRST, "radius": 0.5}),
    "random, following labels": Attempt("random", FIRST, synthesize=follow_labels),
    "MI, 0.25": Attempt("mutual_info", FIRST),
    "MI, 0.25, one step": Attempt("mutual_info", ONE_STEP),
    "MI, following labels": Attempt("mutual_info", FIRST, synthesize=follow_labels),
    "MI, one step, following labels": Attempt("mutual_info", ONE_STEP, synthesize=follow_labels),
    "MI, one step, following labels, uncertain sources": Attempt(
        "mutual_info", ONE_STEP, synthesize=uncertain_sources_following_labels
    ),
    # Of these two, rows are of commit 7d3bb93: what lost its label stayed beside its source. Now it
    # goes back step by step, as the rows of the next two have it.
    "random, 0.5, constrained": Attempt("random", LAST),
    "MI, 0.5, one step, constrained": Attempt("mutual_info", LAST),
    "random, 0.5, stepping back": Attempt("random", LAST),
    "MI, 0.5, one step, stepping back": Attempt("mutual_info", LAST),
    "half MI, half random, 0.25": Attempt("mutual_info", FIRST, synthesize=half_random),
    "random, 0.25, uncertain sources": Attempt("random", FIRST, synthesize=uncertain_sources),
    "MI, 0.5, one step, stepping back, uncertain sources": Attempt(
        "mutual_info", LAST, synthesize=uncertain_sources
    ),
    "copies, classes evened out": Attempt(None, {}, EVENED_OUT),
    "random, 0.5, stepping back, classes evened out": Attempt("random", LAST, EVENED_OUT),
    "MI, 0.5, one step, stepping back, classes evened out": Attempt(
        "mutual_info", LAST, EVENED_OUT
    ),
    "MI, 0.5, one step, stepping back, Laplace": Attempt(
        "mutual_info", {**LAST, "members": "laplace"}
    ),
    "MI, 0.5, one step, stepping back, trained autoencoder": Attempt(
        "mutual_info", LAST, autoencoder=TRAINED
    ),
}


# %%
# A run: one attempt with one draw of labels.


def run_one(root: Path, half: str, name: str, attempt: str, seed: int) -> Row:
    """Train in one way and score on what the draw of labels leaves over of a half."""
    # Of the splits, that for training alone.
    splits = load_splits(str(root / f"{name}.npz"), score_on="val")
    [(train, _)] = splits.divisions(1)
    halves = train_test_split(train, test_size=0.5, stratify=splits.y[train], random_state=0)
    rows = np.sort(halves[HALVES.index(half)])
    drawn = rows[subsample(splits.y[rows], N_LABELS, random_state=seed)]
    left = np.setdiff1d(rows, drawn)
    X, y = splits.X, splits.y
    way = ATTEMPTS[attempt]
    classifier = way.arm().make_classifier(
        n_classes=len(splits.class_names), max_epochs=EPOCHS, random_state=seed
    )
    with threadpool_limits(1), mock.patch.object(Engine, "synthesize", way.synthesize):
        start = process_time()
        classifier.fit(X[drawn], y[drawn])
        seconds = process_time() - start
        proba = classifier.predict_proba(X[left]).astype(float)
        some = left[np.random.default_rng(0).permutation(len(left))[:N_PERTURBED]]
        corrupted = corruption_scores(classifier, X[some], y[some], severities=3, random_state=0)
        attack = {"attacks": ["pgd"], "eps": [2 / 255], "max_iter": 10, "n_restarts": 1}
        attacked = adversarial_scores(classifier, X[some], y[some], random_state=0, **attack)
    scores = classification_scores(y[left], proba, classifier.classes_)
    proba /= proba.sum(1, keepdims=True)
    synthesis = [e for e in classifier.history_ if "synthesis_uncertainty" in e]
    fitted = getattr(classifier, "synthesizer_", None)
    return {
        "half": half,
        "set": name,
        "attempt": attempt,
        "seed": seed,
        "balanced_accuracy": scores["balanced_accuracy"],
        "roc_auc": scores["roc_auc"],
        "nll": log_loss(y[left], proba, labels=classifier.classes_),
        "corrupted_auc": corrupted.mean["roc_auc"],
        "pgd": attacked.rows[-1]["accuracy"],
        "label_agreement": np.mean([e["synthesis_label_agreement"] for e in synthesis] or [1]),
        "radius": fitted.radius if synthesis else 0,
        "seconds": seconds,
    }


def key_of(row: Row) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in ("half", "set", "attempt", "seed"))


def read(path: Path) -> list[Row]:
    """Read the rows of earlier runs."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            {name: float(text) if name in SCORES else text for name, text in row.items()}
            for row in csv.DictReader(file)
        ]


def run(options: argparse.Namespace) -> None:
    """Run what is missing, and append a row for each run."""
    done = {key_of(row) for row in read(options.out)}
    # Seed by seed, so that what an interrupted search leaves is even.
    wanted = [
        (options.half, name, attempt, seed)
        for seed in range(options.seeds)
        for name in options.sets
        for attempt in options.attempts
    ]
    missing = [key for key in wanted if tuple(map(str, key)) not in done]
    print(f"{len(missing)} of {len(wanted)} runs are missing")
    parallel = Parallel(options.n_jobs, return_as="generator_unordered", batch_size=1)
    with closing(parallel(delayed(run_one)(options.root, *key) for key in missing)) as finished:
        for row in finished:
            is_new = not options.out.exists()
            with options.out.open("a", newline="") as file:
                writer = csv.DictWriter(file, list(row), lineterminator="\n")
                if is_new:
                    writer.writeheader()
                texts = {k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()}
                writer.writerow(texts)
            print(*row.values(), flush=True)


# %%
# The report: differences to standard augmentation within pairs of equal labels and initial weights;
# the mean over sets of their means, with the standard error that comes from seeds.


def lines(rows: list[Row], half: str) -> Iterator[tuple[str, ...]]:
    """Return the rows of the table, attempt by attempt."""
    rows = [row for row in rows if row["half"] == half]
    values = {key_of(row): np.array([row[score] for score in SCORES]) for row in rows}
    for attempt in list(ATTEMPTS)[1:]:
        found: dict[str, list[np.ndarray]] = {}
        for (_, name, which, seed), value in values.items():
            reference = values.get((half, name, REFERENCE, seed))
            if which == attempt and reference is not None:
                found.setdefault(name, []).append(value - reference)
        means, variances = [], []
        for name, each in found.items():
            means.append(np.mean(each, axis=0))
            several = np.var(each, axis=0, ddof=1) / len(each) if len(each) > 1 else np.nan
            variances.append(np.broadcast_to(several, len(SCORES)))
            yield half, attempt, name, str(len(each)), *(f"{mean:+.3f}" for mean in means[-1])
        if means:
            error = np.sqrt(np.sum(variances, axis=0)) / len(means)
            pairs = zip(np.mean(means, axis=0), np.broadcast_to(error, len(SCORES)), strict=True)
            texts = (f"{m:+.3f}" + f" ± {e:.3f}" * (not np.isnan(e)) for m, e in pairs)
            runs = f"{sum(map(len, found.values()))} of {len(found)} sets"
            yield half, attempt, "all", runs, *texts


def print_table(table: list[tuple[str, ...]]) -> None:
    """Print lines with columns of equal width."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  ".join(f"{text:{width}}" for text, width in zip(line, widths, strict=True)))


def report(options: argparse.Namespace) -> None:
    """Print the differences to standard augmentation."""
    rows = read(options.out)
    heads = ("half", "attempt", "set", "runs", "balanced accuracy", "AUC", "NLL", "corrupted AUC")
    table = [(*heads, "PGD 2/255"), *(line for half in HALVES for line in lines(rows, half))]
    print_table(table)
    if options.table:
        # Of several sets, what they say together.
        with options.table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows(line for line in table if line[2] in ("set", "all"))


def main() -> None:
    parser = argparse.ArgumentParser(description="What was tried to make synthesis better.")
    parser.add_argument("what", choices=["run", "report"])
    parser.add_argument("--root", type=Path, default=Path(), help="folder of the .npz files")
    parser.add_argument("--out", type=Path, default=CSV, help=f"table (default: {CSV.name})")
    parser.add_argument("--table", type=Path, help="where report writes the table of the page")
    parser.add_argument("--half", choices=HALVES, default="choose")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--attempts", nargs="+", choices=ATTEMPTS, default=list(ATTEMPTS))
    parser.add_argument("--seeds", type=int, default=3, help="draws of labels (default: 3)")
    parser.add_argument("--n-jobs", type=int, default=2, help="processes, one thread each")
    options = parser.parse_args()
    {"run": run, "report": report}[options.what](options)


if __name__ == "__main__":
    main()
