"""Many files at once: in threads, and with what is wrong with single ones collected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from joblib import Parallel, cpu_count, delayed

from tsynd_sk.datasets._image_facts import FileFault, ImageFacts

#: Bytes that all threads together may use for images while they decode them.
_BUDGET = 120 * 2**20


def n_threads(facts: Iterable[ImageFacts] = ()) -> int:
    """Return how many threads may decode images like these at once."""
    largest = max(map(_bytes_to_decode, facts), default=1)
    return max(1, min(cpu_count(), 16, _BUDGET // largest))


def _bytes_to_decode(facts: ImageFacts) -> int:
    # As stored and as two arrays in double precision; or as stored, as it is shown, as an array.
    of_value = 24 if facts.deep else 4
    return facts.shape[0] * facts.shape[1] * of_value * (3 if facts.colour else 1)


def in_threads(
    task: Callable[[Any], Any],
    items: Sequence[Any],
    threads: int,
    report: Callable[[], object] = lambda: None,
) -> list[Any]:
    """Return what `task` returns for each item, or the fault that it raises."""

    def run(item: Any) -> Any:
        try:
            return task(item)
        except FileFault as fault:
            return fault

    results = []
    parallel = Parallel(threads, require="sharedmem", batch_size=16, return_as="generator")
    for result in parallel(delayed(run)(item) for item in items):
        results.append(result)
        report()
    return results


def refusal(faults: dict[str, FileFault], where: str, way_out: str) -> ValueError:
    """Return the error for files that cannot be read."""
    named = "\n".join(f"  {name}: {fault}" for name, fault in list(faults.items())[:10])
    more = f"\n  and {len(faults) - 10} more" if len(faults) > 10 else ""
    return ValueError(
        f"{len(faults)} image files{where} cannot be read:\n{named}{more}\nMend or remove them, or "
        f"{way_out}"
    )
