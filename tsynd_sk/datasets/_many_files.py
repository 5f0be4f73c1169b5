"""Many files at once: in threads, and with what is wrong with single ones collected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from joblib import cpu_count

from tsynd_sk.datasets._image_facts import FileFault, ImageFacts

T = TypeVar("T")
R = TypeVar("R")

#: Bytes that all threads together may use for images while they decode them.
_BUDGET = 120 * 2**20
_CHUNK = 16


def n_threads(facts: Iterable[ImageFacts] = ()) -> int:
    """Return how many threads may decode images like these at once."""
    largest = max(map(_bytes_to_decode, facts), default=1)
    return max(1, min(cpu_count(), 16, _BUDGET // largest))


def _bytes_to_decode(facts: ImageFacts) -> int:
    # As stored and as two arrays in double precision; or as stored, as it is shown, as an array.
    of_value = 24 if facts.deep else 4
    return facts.shape[0] * facts.shape[1] * of_value * (3 if facts.colour else 1)


def in_threads(
    task: Callable[[T], R], items: Sequence[T], threads: int, report: Callable[[int], object]
) -> list[R | FileFault]:
    """Return what `task` returns for each item, or the fault that it raises."""

    def run(chunk: Sequence[T]) -> list[R | FileFault]:
        results: list[R | FileFault] = []
        for item in chunk:
            try:
                results.append(task(item))
            except FileFault as fault:
                results.append(fault)
        return results

    chunks = [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
    done: list[R | FileFault] = []
    with ThreadPoolExecutor(threads) as pool:
        try:
            for results in pool.map(run, chunks):
                done += results
                report(len(results))
        except BaseException:  # Ctrl-C among them: nobody waits for what is queued
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return done


def refusal(faults: dict[str, FileFault], where: str, way_out: str) -> ValueError:
    """Return the error for files that cannot be read."""
    named = "\n".join(f"  {name}: {fault}" for name, fault in list(faults.items())[:10])
    more = f"\n  and {len(faults) - 10} more" if len(faults) > 10 else ""
    return ValueError(
        f"{len(faults)} image files{where} cannot be read:\n{named}{more}\nMend or remove them, or "
        f"{way_out}"
    )
