"""Order of the gallery, and what each example starts from."""

from pathlib import Path

# From the first steps to special cases; examples that are not named here come last.
_ORDER = (
    "plot_quick_start",
    "plot_grid_search",
    "plot_imbalance",
    "plot_ascent",
    "plot_triage",
    "plot_robustness",
    "plot_saliency",
    "plot_unlabelled",
    "plot_own_objective",
    "plot_own_autoencoder",
    "plot_deep_ensemble",
    "plot_cluster",
    "plot_saving",
    "medmnist",
)


class TeachingOrder:
    """Key by which examples are sorted."""

    def __init__(self, folder: str):
        pass

    def __call__(self, filename: str) -> tuple[int, str]:
        """Place of an example."""
        name = Path(filename).stem
        return (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)


def reset_torch(gallery_conf: dict, filename: str) -> None:
    """Start each example from the same random numbers, on one thread, whatever ran before."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)
