"""Small networks in double precision, and rows for them."""

import torch
from torch import nn


def rows(n, d, *, seed=0, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def seeded(make, seed=0):
    """Build a float64 network without touching the global random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().double()


def mlp(*, bias=True, n_outputs=3, end=nn.Identity):
    def make():
        return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, n_outputs, bias=bias), end())

    return seeded(make)
