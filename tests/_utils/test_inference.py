"""Private copies of networks that predict."""

from functools import partial

import pytest
import torch
from helpers.noisy_nets import build, log_softmax
from torch import nn

from tsynd_sk._utils._inference import InferenceCopy, private_copy
from tsynd_sk.members import DropoutMembers, EnsembleMembers


def prepared(net, x):
    network = InferenceCopy(net, log_softmax)
    network.prepare(x)
    return network


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm2d(2),
        nn.BatchNorm2d(2, track_running_stats=False),
        nn.InstanceNorm2d(2, affine=True),
        nn.GroupNorm(1, 2),
    ],
)
def test_normalises_as_the_network_does(norm):
    net, x = nn.Sequential(norm, nn.Flatten()), build("convolutional")[1]
    net(x)
    torch.testing.assert_close(prepared(net, x)(x), log_softmax(net.eval()(x)).detach())


def test_lays_activations_out_as_convolutions_like_them_unless_the_network_cannot():
    layouts = {}
    for name in ("convolutional", "viewed"):
        net, x = build(name)
        network = prepared(net, x)
        weight = next(iter(network.module.parameters()))
        layouts[name] = weight.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(network(x), log_softmax(net.eval()(x)).detach())
        assert next(iter(net.parameters())).is_contiguous()
    assert layouts == {"convolutional": True, "viewed": False}


@pytest.mark.parametrize("leaf", [True, False])
def test_leaves_images_alone_that_the_network_writes_on(leaf):
    net, x = build("writing")
    expected = x.clone()
    members = DropoutMembers(net, log_softmax, n_members=3)
    members(x.requires_grad_(leaf)).sum().backward() if leaf else members(x)
    assert torch.equal(x.detach(), expected)
    # No member sees what another one wrote.
    alone = DropoutMembers(net, log_softmax, n_members=1)(x)
    torch.testing.assert_close(members(x)[:1], alone)


def test_answers_padded_sequences_alike_with_and_without_gradients():
    net, x = build("padded transformer")
    network = prepared(net, x)
    with torch.no_grad():
        without = network(x)
    torch.testing.assert_close(network(x.requires_grad_()).detach(), without)


@pytest.mark.parametrize(
    "make",
    [
        lambda net: DropoutMembers(net, log_softmax, n_members=3),
        lambda net: EnsembleMembers([net], [log_softmax]),
    ],
)
def test_serves_gradients_after_a_first_call_in_inference_mode(make):
    net, x = build("convolutional")
    members = make(net)
    with torch.inference_mode():
        first = members(x).clone()
    log_probs = members(x.requires_grad_())
    log_probs.sum().backward()
    torch.testing.assert_close(log_probs.detach(), first.clone())


def test_does_not_compute_in_the_format_that_its_surroundings_ask_for():
    net, x = build("late")
    expected = DropoutMembers(net, log_softmax, n_members=3)(x)
    members = DropoutMembers(net, log_softmax, n_members=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(members(x), expected)
    assert torch.equal(members(x), expected)


def trained_norm(**params):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3, **params)
    norm.train()(5 + 2 * torch.randn(9, 3, 4, 4))
    return norm


def with_hook(conv):
    conv.register_forward_hook(lambda layer, inputs, output: 2 * output)
    return conv


def named_by_its_forward(conv, norm):
    class Reversed(nn.Sequential):
        def forward(self, x):
            return self[0](self[1](x))

    return Reversed(conv, norm)


@pytest.mark.parametrize(
    ("make", "is_folded"),
    [
        (lambda conv: nn.Sequential(conv, trained_norm(), nn.ReLU()), True),
        (lambda conv: nn.Sequential(conv, trained_norm(affine=False)), True),
        (lambda conv: nn.Sequential(conv, trained_norm(), conv, trained_norm()), True),
        (lambda conv: nn.Sequential(conv, nn.ReLU(), trained_norm()), False),
        (lambda conv: nn.Sequential(with_hook(conv), trained_norm()), False),
        (lambda conv: named_by_its_forward(conv, trained_norm()), False),
    ],
)
def test_folds_a_norm_into_the_convolution_before_it(make, is_folded):
    network = make(nn.Conv2d(3, 3, 3, padding=1)).eval()
    copied = InferenceCopy(network, lambda output: output)
    x = torch.rand(2, 3, 6, 6)
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    torch.testing.assert_close(copied(x), network(x), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    norms = [part for part in copied.module.modules() if hasattr(part, "running_mean")]
    assert norms
    assert not any(isinstance(norm, nn.BatchNorm2d) for norm in norms)
    # A norm that is folded leaves its input as it is.
    assert all((norm(x) is x) == is_folded for norm in norms)


def test_a_norm_in_two_places_is_folded_in_one():
    conv, norm = nn.Conv2d(3, 3, 3, padding=1), trained_norm()
    network, x = nn.Sequential(conv, norm, nn.ReLU(), norm).eval(), torch.rand(2, 3, 6, 6)
    copied = InferenceCopy(network, lambda output: output)
    torch.testing.assert_close(copied(x), network(x), rtol=1e-5, atol=1e-5)


def test_leaves_layers_with_a_forward_of_their_own():
    network, x = nn.Sequential(nn.Conv2d(3, 3, 3), trained_norm()).eval(), torch.rand(2, 3, 6, 6)
    network[1].forward = torch.exp
    torch.testing.assert_close(InferenceCopy(network, lambda output: output)(x), network(x))


class Holder:
    """What a hook may be a method of."""

    def __init__(self):
        self.kept = None

    def keep(self, layer, inputs, output):
        self.kept = output


class Keeper(nn.Module):
    """Keeps activations in every place where a module can."""

    def __init__(self):
        super().__init__()
        self.linear, self.drop, self.head = nn.Linear(4, 8), nn.Dropout(), nn.Linear(8, 3)
        self.attribute, self.in_list, self.in_dict, self.in_tuple = None, [], {}, ()
        self.holder = Holder()
        self.linear.register_forward_hook(self.holder.keep)
        self.head.register_forward_hook(partial(self.keep_deep, []))

    def keep_deep(self, kept, layer, inputs, output):
        kept.append({"deep": (output,)})

    def forward(self, x):
        self.attribute = x = self.linear(x)
        self.in_list.append(x)
        self.in_dict["nested"] = [x]
        self.in_tuple = (x, {"x": x})
        return self.head(self.drop(x))


def test_copies_of_networks_that_keep_activations():
    torch.manual_seed(0)
    net, x = Keeper(), torch.rand(5, 4)
    for _ in range(2):
        net(x).sum().backward()
    assert not net.attribute.is_leaf
    duplicate = private_copy(net)
    torch.testing.assert_close(duplicate(x), net.eval()(x))
    # What they keep, they keep apart.
    assert duplicate.holder is not net.holder
    assert duplicate.in_list[0] is not net.in_list[0]
    assert not duplicate.in_list[0].requires_grad
    assert torch.equal(duplicate.in_list[0], net.in_list[0])
    assert DropoutMembers(net, log_softmax, n_members=3)(x).shape == (3, 5, 3)
    assert EnsembleMembers([net], [log_softmax])(x).shape == (1, 5, 3)


def test_copies_hold_what_is_one_thing_once():
    net = Keeper()
    net(torch.rand(5, 4)).sum().backward()
    duplicate = private_copy(net)
    assert duplicate.attribute is duplicate.in_list[0] is duplicate.in_tuple[1]["x"]
