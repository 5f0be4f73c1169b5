"""Networks that are random in different ways, for the tests of members."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

from tsynd_sk.members import DropoutMembers


def log_softmax(logits):
    return logits.log_softmax(-1)


def identity(output):
    return output


class Twice(nn.Module):
    """One dropout layer, called on two shapes."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 9)
        self.last = nn.Linear(9, 3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.last(self.drop(torch.tanh(self.first(self.drop(x)))))


class Residual(nn.Module):
    """A connection around random layers, which one image would broadcast over folded members."""

    def __init__(self):
        super().__init__()
        self.around = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Dropout(0.5))
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        x = x + self.around(x)
        return self.last(x + self.around(x))


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 9)
        self.last = nn.Linear(9, 3)

    def forward(self, x):
        x = torch.tanh(self.first(F.dropout(x, 0.3, self.training)))
        return self.last(F.dropout(x, p=0.5, training=self.training))


class Viewed(nn.Module):
    """Flattens by Tensor.view, which channels-last activations do not bear."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(4 * 6 * 6, 3)

    def forward(self, x):
        x = self.drop(self.conv(x))
        return self.last(x.view(len(x), -1))


class Recurrent(nn.Module):
    """Recurrent kernels have no rule for vmap."""

    def __init__(self, kind):
        super().__init__()
        self.drop = nn.Dropout(0.4)
        self.rows = kind(6, 5, batch_first=True)
        self.last = nn.Linear(5, 3)

    def forward(self, x):
        return self.last(self.rows(self.drop(x))[0][:, -1])


class Branching(nn.Module):
    """Control flow that depends on values behind the masks."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        x = self.drop(x)
        return self.last(x) if x.sum() > 0 else self.last(-2 * x)


class SequenceFirst(nn.Module):
    """Dropout that sees (length, n, features), as recurrent layers do by default."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        return self.last(self.drop(x.transpose(0, 1)).mean(0))


class Attentive(nn.Module):
    """In evaluation mode, torch has fast paths here that pass over dropout layers."""

    def __init__(self, padded=False):
        super().__init__()
        layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.3, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.last = nn.Linear(6, 3)
        self.padded = padded

    def forward(self, x):
        padding = torch.zeros(x.shape[:2], dtype=torch.bool)
        padding[:, -1] = self.padded
        return self.last(self.encoder(x, src_key_padding_mask=padding).mean(1))


class Pooled(nn.Module):
    """Attention whose weights drop, of one learnt query."""

    def __init__(self):
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, 6))
        self.attend = nn.MultiheadAttention(6, 2, dropout=0.3, batch_first=True)
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        query = self.query.expand(len(x), -1, -1)
        return self.last(self.attend(query, key=x, value=x)[0][:, 0])


class Writing(nn.Module):
    """Writes on its input, and on what is common to all members."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        x = x.mul_(2)
        return self.last(x.add_(self.drop(x)))


def _same_layer_twice():
    drop = nn.Dropout(0.5)
    return nn.Sequential(drop, nn.Linear(6, 9), nn.Tanh(), drop, nn.Linear(9, 3))


def _convolutional():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Dropout2d(0.5),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 5, 3),
        nn.BatchNorm2d(5),
        nn.Dropout(0.3),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 3),
    )


def _over_channels(conv, drop, n_features):
    return nn.Sequential(conv, nn.Tanh(), drop, nn.Flatten(), nn.Linear(n_features, 3))


def _stochastic_depth():
    stages = [CNBlockConfig(8, 16, 2), CNBlockConfig(16, None, 2)]
    return ConvNeXt(stages, stochastic_depth_prob=0.6, layer_scale=0.5, num_classes=3)


class Case(NamedTuple):
    make: type
    shape: tuple
    decision: str = "fold"


NETWORKS = {
    "late": Case(
        lambda: nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Dropout(0.5), nn.Linear(9, 3)), (6,)
    ),
    "nested": Case(
        lambda: nn.Sequential(
            nn.Sequential(nn.Sequential(nn.Linear(6, 9), nn.Dropout(0.3)), nn.ReLU(inplace=True)),
            nn.Sequential(nn.Dropout(0.2), nn.Linear(9, 3)),
        ),
        (6,),
    ),
    "twice in forward": Case(Twice, (6,)),
    "twice in one Sequential": Case(_same_layer_twice, (6,)),
    "nothing but dropout": Case(lambda: nn.Dropout(0.5), (6,)),
    "functional": Case(Functional, (6,)),
    "convolutional": Case(_convolutional, (2, 8, 8)),
    "viewed": Case(Viewed, (2, 8, 8)),
    "Dropout1d": Case(lambda: _over_channels(nn.Conv1d(2, 8, 3), nn.Dropout1d(0.5), 32), (2, 6)),
    "Dropout3d": Case(
        lambda: _over_channels(nn.Conv3d(1, 8, 3), nn.Dropout3d(0.5), 64), (1, 4, 4, 4)
    ),
    "AlphaDropout": Case(
        lambda: nn.Sequential(nn.Linear(6, 9), nn.SELU(), nn.AlphaDropout(0.3), nn.Linear(9, 3)),
        (6,),
    ),
    "FeatureAlphaDropout": Case(
        lambda: _over_channels(nn.Conv2d(1, 8, 3), nn.FeatureAlphaDropout(0.5), 128), (1, 6, 6)
    ),
    "residual": Case(Residual, (6,), "fold in "),
    "stochastic depth": Case(_stochastic_depth, (3, 12, 12), "fold in features.1.1"),
    "sequence first": Case(SequenceFirst, (4, 6), "loop"),
    "transformer": Case(Attentive, (4, 6), "fold in "),
    "padded transformer": Case(lambda: Attentive(padded=True), (4, 6), "fold in "),
    "attention pooling": Case(Pooled, (4, 6)),
    "GRU": Case(lambda: Recurrent(nn.GRU), (4, 6)),
    "LSTM": Case(lambda: Recurrent(nn.LSTM), (4, 6)),
    "branching": Case(Branching, (6,), "loop"),
    "writing": Case(Writing, (6,), "fold in "),
}
# In "branching" the sum over all rows decides, so that a row depends on its company.
ROW_BY_ROW = [name for name in NETWORKS if name != "branching"]


def build(name, n_samples=5, dtype=torch.float32):
    case = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return case.make().to(dtype), torch.randn(n_samples, *case.shape, dtype=dtype)


def decided(x, decision):
    """Decisions by which members of a network are computed in a way of the test's choice."""
    return {tuple(x.shape[1:]): decision}


class Calling(nn.Module):
    """A net around any function of images; what the function calls layers are its parts."""

    def __init__(self, function, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.function = function

    def forward(self, x):
        return self.function(self, x)


def outputs(net, x, **params):
    """What members of a net give that need not be a classifier."""
    shapes = []

    def head(output):
        shapes.append(output.shape[1:])
        return output.flatten(1)

    return DropoutMembers(net, head, **params)(x).unflatten(-1, shapes[-1])


def members_of(function, x, n_members=8, seed=0, decisions=None, **parts):
    net = Calling(function, **parts)
    return outputs(net, x, n_members=n_members, seed=seed, decisions=decisions)


def distinct(members):
    return len({tuple(member.flatten().tolist()) for member in members})
