"""Networks by name, as `Pretrained` takes them: functions of numbers of channels and of classes."""

import torch
from torch import nn


class Tiny(nn.Module):
    """Batch normalisation, dropout if any, and a head; sees `n_in` channels."""

    def __init__(self, n_in, n_out, dropout=0.0):
        super().__init__()
        self.conv = nn.Conv2d(n_in, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()
        self.head = nn.Linear(4, n_out)

    def forward(self, x):
        self.seen = x
        return self.head(self.drop(self.norm(self.conv(x)).relu().mean((2, 3))))


def tiny(n_channels, n_classes):
    return Tiny(n_channels, n_classes)


def for_colours(n_channels, n_classes):
    return Tiny(3, n_classes)


def with_dropout(n_channels, n_classes):
    return Tiny(3, n_classes, dropout=0.3)


def of_five_classes(n_channels, n_classes):
    return Tiny(3, 5)


def five_with_dropout(n_channels, n_classes):
    return Tiny(3, 5, dropout=0.3)


def of_one_size(n_channels, n_classes):
    """Takes images of 64 x 64 pixels alone."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, n_classes))


SHARED = Tiny(1, 3)


def shared(n_channels, n_classes):
    """Return the same network whenever it is called."""
    return SHARED


class Dict(Tiny):
    def forward(self, x):
        return {"features": x, "logits": super().forward(x)}


def returns_dict(n_channels, n_classes):
    return Dict(n_channels, n_classes)


def no_network(n_channels, n_classes):
    return torch.zeros(2)


NUMBER = 3
