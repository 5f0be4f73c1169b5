import copy
import math
import pickle
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.noisy_nets import NETWORKS, ROW_BY_ROW, Functional, build, identity, log_softmax
from torch import nn

from tsynd_sk.members._dropout import DropoutMembers
from tsynd_sk.members._ensemble import EnsembleMembers
from tsynd_sk.members._joined import JoinedMembers
from tsynd_sk.members._laplace import LaplaceMembers
from tsynd_sk.members._laplace_posterior import LastLayerPosterior, last_layer_posterior
from tsynd_sk.uncertainty import mutual_information, predictive_entropy


@pytest.fixture(params=NETWORKS)
def network_name(request):
    return request.param


class TestDropoutMembers:
    def test_every_network_has_members_that_differ(self, network_name):
        net, x = build(network_name)
        log_probs = DropoutMembers(net, log_softmax, n_members=6)(x)
        assert log_probs.shape[:2] == (6, 5)
        torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(6, 5))
        assert len({tuple(member.flatten().tolist()) for member in log_probs}) > 1
        information = mutual_information(log_probs)
        assert (information > 1e-7).all()
        assert (information <= math.log(min(6, log_probs.shape[-1]))).all()

    def test_members_hold_still_from_call_to_call(self, network_name):
        net, x = build(network_name)
        members = DropoutMembers(net, log_softmax, n_members=3)
        first = members(x)
        assert torch.equal(members(x), first)
        # With and without gradients, and on other rows in between.
        members(x.flip(0)[:2] + 1)
        torch.testing.assert_close(members(x.clone().requires_grad_()), first)

    @pytest.mark.parametrize("network_name", ROW_BY_ROW)
    def test_masks_are_shared_by_the_rows_of_a_batch(self, network_name):
        net, x = build(network_name)
        members = DropoutMembers(net, log_softmax, n_members=3)
        whole = members(x)
        rows = torch.cat([members(row) for row in x.split(1)], 1)
        torch.testing.assert_close(rows, whole, atol=1e-5, rtol=0)
        repeated = members(x[:1].expand(4, *x.shape[1:]))
        torch.testing.assert_close(repeated, repeated[:, :1].expand_as(repeated))

    @pytest.mark.parametrize("network_name", ROW_BY_ROW)
    def test_seeds_decide_on_members_whatever_batch_comes_first(self, network_name):
        net, x = build(network_name)
        expected = DropoutMembers(net, log_softmax, n_members=4, seed=1)(x)
        other_first = DropoutMembers(net, log_softmax, n_members=4, seed=1)
        other_first(x[-2:])
        torch.testing.assert_close(other_first(x), expected)
        other_seed = DropoutMembers(net, log_softmax, n_members=4, seed=2)(x)
        assert (other_seed - expected).abs().max() > 1e-3

    def test_redrawn_members_are_those_of_a_new_object_with_that_seed(self, network_name):
        net, x = build(network_name)
        members = DropoutMembers(net, log_softmax, n_members=4, seed=1)
        before = members(x)
        redrawn = members.redrawn(8)
        assert redrawn.n_members == 4
        assert torch.equal(redrawn(x), DropoutMembers(net, log_softmax, n_members=4, seed=8)(x))
        assert torch.equal(members(x), before)
        assert torch.equal(redrawn.redrawn(1)(x), before)

    @pytest.mark.parametrize("network_name", ROW_BY_ROW)
    def test_gradients_with_respect_to_images_are_those_of_finite_differences(self, network_name):
        net, x = build(network_name, n_samples=2, dtype=torch.float64)
        for plan in NETWORKS[network_name].plans.split():
            members = DropoutMembers(net, log_softmax, n_members=2, plan=plan)
            assert torch.autograd.gradcheck(
                lambda values, members=members: mutual_information(members(values)),
                x.requires_grad_(),
                atol=1e-6,
                fast_mode=True,
            )

    def test_mean_of_many_members_of_a_linear_network_is_the_network(self):
        net = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 3)).double()
        x = torch.linspace(-1, 1, 30, dtype=torch.float64).reshape(5, 6)
        outputs = DropoutMembers(net, identity, n_members=2000)(x)
        error = outputs.mean(0) - net.eval()(x).detach()
        assert (error.abs() < 4 * outputs.std(0) / 2000**0.5).all()

    def test_errors_of_the_network_come_back_as_they_are(self):
        members = DropoutMembers(nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 2)), log_softmax)
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            members(torch.ones(2, 5))
        # Nothing sticks: the same members then serve images that fit.
        assert members(torch.ones(2, 4)).shape == (16, 2, 2)

    @pytest.mark.parametrize("n_members", [0, -1])
    def test_a_number_of_members_that_is_none_is_refused(self, n_members):
        with pytest.raises(ValueError, match=f"n_members must be at least 1; got {n_members}"):
            DropoutMembers(nn.Dropout(), log_softmax, n_members=n_members)


class Blocks(nn.Module):
    """Random layers with names, two of them called twice and one never."""

    def __init__(self, rates=(0.2, 0.3, 0.25, 0.4)):
        super().__init__()
        self.head = nn.Sequential(nn.Dropout(rates[3]), nn.Linear(8, 3))
        self.body = nn.Sequential(
            nn.Linear(8, 8), nn.Dropout(rates[0]), nn.Tanh(), nn.Dropout(rates[1])
        )
        self.body_too = nn.Dropout(rates[2])
        self.unused = nn.Dropout(0.5)

    def forward(self, x):
        return self.head(self.body_too(self.body(self.body(x))))


def fitted(net, n_features=6):
    return last_layer_posterior(net, log_softmax, [torch.ones(4, n_features)])


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
class TestRefusals:
    """What is no network, head or number is refused at once, and it is said what would be one."""

    @pytest.mark.parametrize(
        ("params", "error", "message"),
        [
            ({"module": log_softmax}, TypeError, "must be a torch.nn.Module, got a function"),
            ({"module": nn.Linear}, TypeError, "must be a torch.nn.Module, got the type Linear"),
            ({"module": "scripted"}, TypeError, "RecursiveScriptModule.* module that was scripted"),
            ({"to_log_proba": "softmax"}, TypeError, "must be callable .* got a str"),
            ({"to_log_proba": None}, TypeError, "must be callable .* got a NoneType"),
        ],
    )
    @pytest.mark.parametrize("kind", ["dropout", "laplace", "ensemble"])
    def test_of_networks_and_heads(self, kind, params, error, message):
        net = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 3))
        module = params.get("module", net)
        module = torch.jit.script(net) if module == "scripted" else module
        head = params.get("to_log_proba", log_softmax)
        name = next(iter(params))
        name = rf"{name}s\[1\]" if kind == "ensemble" else name
        make = {
            "dropout": DropoutMembers,
            "laplace": partial(LaplaceMembers, posterior=fitted(net)),
            "ensemble": lambda *last: EnsembleMembers(*zip((net, log_softmax), last, strict=True)),
        }[kind]
        with pytest.raises(error, match=f"^{name} .*{message}"):
            make(module, head)

    @pytest.mark.parametrize("name", ["n_members", "seed"])
    @pytest.mark.parametrize("value", [2.0, "2", None, True])
    def test_of_numbers(self, name, value):
        net = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 3))
        for make in (DropoutMembers, partial(LaplaceMembers, posterior=fitted(net))):
            with pytest.raises(TypeError, match=f"{name} must be an int, got {value!r}"):
                make(net, log_softmax, **{name: value})
            members = make(net, log_softmax, n_members=np.int64(2), seed=np.uint8(3))
            expected = make(net, log_softmax, n_members=2, seed=3)
            assert torch.equal(members(torch.ones(1, 6)), expected(torch.ones(1, 6)))
            for group in (members, JoinedMembers([members])):
                with pytest.raises(TypeError, match=f"seed must be an int, got {value!r}"):
                    group.redrawn(value)

    @pytest.mark.parametrize("kind", ["dropout", "laplace", "ensemble", "joined"])
    def test_of_images_that_are_no_tensor(self, kind):
        members = make_members(kind, *build("late"))
        for use in (members, members.plan):
            with pytest.raises(TypeError, match=r"x must be a Tensor, got a ndarray; .*from_numpy"):
                use(np.ones((2, 6), np.float32))

    @pytest.mark.parametrize("kind", ["dropout", "laplace", "ensemble loop", "ensemble vmap"])
    @pytest.mark.parametrize(
        ("head", "shape"),
        [(lambda y: y[:, 0], r"\(5,\)"), (lambda y: y[:, None], r"\(5, 1, 3\)"), (torch.t, "3, 5")],
    )
    def test_of_heads_that_give_no_table_of_classes(self, kind, head, shape):
        net, x = build("late")
        with pytest.raises(ValueError, match=f"to_log_proba must .* here .5, n_classes.*{shape}"):
            make_members(kind, net, x, head)(x)


class TestRestriction:
    @pytest.mark.parametrize(
        ("restrict", "rates"),
        [
            (None, (0.2, 0.3, 0.25, 0.4)),
            ("last", (0, 0, 0, 0.4)),
            (1, (0, 0, 0, 0.4)),
            (3, (0, 0.3, 0.25, 0.4)),
            (4, (0.2, 0.3, 0.25, 0.4)),
            (9, (0.2, 0.3, 0.25, 0.4)),
            (["body.1"], (0.2, 0, 0, 0)),
            (["body"], (0.2, 0.3, 0, 0)),
            (("head", "body.3"), (0, 0.3, 0, 0.4)),
        ],
    )
    @pytest.mark.parametrize("plan", ["auto", "fold", "vmap", "loop"])
    def test_leaves_as_many_layers_random_as_if_the_others_had_no_dropout(
        self, restrict, rates, plan
    ):
        net, rest = Blocks(), Blocks(rates)
        rest.load_state_dict(net.state_dict())
        x = torch.linspace(-2, 2, 24).reshape(3, 8)
        restricted = DropoutMembers(net, log_softmax, restrict=restrict, plan=plan)(x)
        expected = DropoutMembers(rest, log_softmax, plan=plan)(x)
        torch.testing.assert_close(restricted, expected)
        every = mutual_information(DropoutMembers(net, log_softmax, plan=plan)(x))
        same = torch.allclose(mutual_information(restricted), every)
        assert same == (0 not in rates)

    def test_names_what_there_is_if_a_name_is_none(self):
        layers = r"\['body\.1', 'body\.3', 'body_too', 'head\.0'\]"
        for name in ("bod", "body.2", "unused", "head.0.1", ""):
            with pytest.raises(ValueError, match=layers) as error:
                DropoutMembers(Blocks(), log_softmax, restrict=["head", name])(torch.ones(1, 8))
            assert repr(name) in str(error.value)

    @pytest.mark.parametrize("restrict", ["first", "head", True, False])
    def test_that_chooses_no_layers_is_refused_at_once(self, restrict):
        message = r"restrict must be None .*, 'last', an int .* or a list"
        with pytest.raises(ValueError, match=message):
            DropoutMembers(Blocks(), log_softmax, restrict=restrict)

    @pytest.mark.parametrize("restrict", [0, -2])
    def test_to_no_layers_is_refused_at_once(self, restrict):
        with pytest.raises(ValueError, match=f"at least 1 if it is an int; got {restrict}"):
            DropoutMembers(Blocks(), log_softmax, restrict=restrict)


def ensemble(dtype=torch.float32, n_networks=3):
    nets = [build("convolutional", dtype=dtype)[0] for _ in range(n_networks)]
    with torch.no_grad():
        for k, net in enumerate(nets):
            net[0].weight.add_(0.3 * k)
            net[1].running_mean.add_(0.1 * k)
    return nets, build("convolutional", dtype=dtype)[1]


def test_first_batch_may_be_empty():
    members = DropoutMembers(nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3)), log_softmax)
    assert members(torch.ones(0, 4)).shape == (16, 0, 3)
    assert members(torch.ones(2, 4)).shape == (16, 2, 3)


class TestEnsembleMembers:
    def test_stacks_the_predictions_of_networks_in_evaluation_mode(self):
        nets, x = ensemble()
        log_probs = EnsembleMembers([net.train() for net in nets], [log_softmax] * 3)(x)
        with torch.no_grad():
            expected = torch.stack([net.eval()(x).log_softmax(-1) for net in nets])
        torch.testing.assert_close(log_probs, expected)
        assert (mutual_information(log_probs) > 0).all()

    def test_networks_of_one_architecture_can_be_mapped(self):
        nets, x = ensemble(torch.float64)
        heads = [log_softmax, identity, log_softmax]
        values = {}
        for plan in ("vmap", "loop", "auto"):
            members = EnsembleMembers(nets, heads, plan=plan)
            assert members.plan(x) == ("vmap" if plan == "vmap" else "loop")
            inputs = x.clone().requires_grad_()
            log_probs = members(inputs)
            (gradient,) = torch.autograd.grad(log_probs.square().sum(), inputs)
            values[plan] = torch.cat([log_probs.detach().flatten(), gradient.flatten()])
        torch.testing.assert_close(values["vmap"], values["loop"], rtol=1e-12, atol=1e-12)
        assert torch.equal(values["auto"], values["loop"])

    @pytest.mark.parametrize("plan", ["vmap", "loop"])
    def test_gradients_are_those_of_finite_differences(self, plan):
        nets, x = ensemble(torch.float64)
        members = EnsembleMembers(nets, [log_softmax] * 3, plan=plan)
        assert torch.autograd.gradcheck(
            lambda values: mutual_information(members(values)),
            x[:2].requires_grad_(),
            fast_mode=True,
        )

    def test_networks_that_cannot_be_mapped_are_refused_with_the_reason(self):
        x = torch.randn(3, 2, 6, generator=torch.Generator().manual_seed(0))
        linear, rows = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), build("GRU")[0]
        steep = nn.Sequential(nn.Flatten(), nn.LeakyReLU(0.9), nn.Linear(12, 3))
        flat = nn.Sequential(nn.Flatten(), nn.LeakyReLU(0.1), nn.Linear(12, 3))
        for nets, why in [
            ((linear, rows), "they are of different architectures"),
            ((rows, rows), r"\w+"),
            ((steep, flat), "their outputs differ from those of the networks alone"),
        ]:
            with pytest.raises(ValueError, match=f"plan='vmap' cannot stack these networks: {why}"):
                EnsembleMembers(nets, [log_softmax] * 2, plan="vmap")(x)
            assert EnsembleMembers(nets, [log_softmax] * 2)(x).shape == (2, 3, 3)

    def test_cannot_be_folded(self):
        with pytest.raises(ValueError, match=r"plan='fold' .* differ in their weights"):
            EnsembleMembers([nn.Linear(2, 2)], [log_softmax], plan="fold")

    def test_each_network_has_a_head_of_its_own(self):
        nets = [nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.LogSoftmax(-1))]
        log_probs = EnsembleMembers(nets, [log_softmax, identity])(torch.ones(3, 2))
        torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, 3))

    def test_without_networks_is_refused(self):
        with pytest.raises(ValueError, match="modules is empty"):
            EnsembleMembers([], [])

    @pytest.mark.parametrize(
        ("modules", "heads", "params", "error", "message"),
        [
            (nn.Sequential(nn.Linear(2, 2)), [log_softmax], {}, TypeError, "modules .* a Sequenti"),
            (nn.Linear(2, 2), [log_softmax], {}, TypeError, "modules must be a list .* a Linear"),
            ([nn.Linear(2, 2)], log_softmax, {}, TypeError, "to_log_probas must be .* a function"),
            ([nn.Linear(2, 2)] * 2, [log_softmax], {}, ValueError, "to_log_probas .* 2 and 1"),
            ([nn.Linear(2, 2)], [log_softmax] * 3, {}, ValueError, "to_log_probas .* 1 and 3"),
            ([nn.Linear(2, 2)], [log_softmax], {"plan": "map"}, ValueError, "plan must.*'map'"),
            ([nn.Linear(2, 2)], [log_softmax], {"plan": None}, ValueError, "plan must.*None"),
        ],
    )
    def test_of_something_else_are_refused(self, modules, heads, params, error, message):
        with pytest.raises(error, match=message):
            EnsembleMembers(modules, heads, **params)

    @pytest.mark.parametrize("plan", ["auto", "loop", "vmap"])
    def test_of_different_classes_are_refused(self, plan):
        nets = [nn.Linear(6, 3), nn.Linear(6, 2)]
        members = EnsembleMembers(nets, [log_softmax] * 2, plan=plan)
        with pytest.raises(ValueError, match=r"modules must .* classes.*\[\(\d, 3\), \(\d, 2\)\]"):
            members(torch.ones(2, 6))
        groups = [EnsembleMembers([net], [log_softmax], plan=plan) for net in nets]
        with pytest.raises(ValueError, match=r"groups must .* classes.*\[\(2, 3\), \(2, 2\)\]"):
            JoinedMembers(groups)(torch.ones(2, 6))

    def test_nothing_is_random_in_them(self):
        class AlwaysOn(nn.Linear):
            def forward(self, x):
                return F.dropout(super().forward(x), 0.5)

        class Shaking(nn.Linear):
            def forward(self, x):
                return super().forward(x) + torch.randn_like(x)

        net, x = AlwaysOn(4, 4), torch.ones(2, 4)
        members = EnsembleMembers([net, net], [identity] * 2)
        expected = F.linear(x, net.weight, net.bias).expand(2, 2, 4)
        torch.testing.assert_close(members(x), expected)
        torch.testing.assert_close(members.redrawn(3)(x), expected)
        with pytest.raises(ValueError, match=r"randn_like in layer '0' \(Shaking\)"):
            EnsembleMembers([nn.Sequential(Shaking(4, 4))], [identity])(x)


def laplace(n_members=16, dtype=torch.float64, prior_precision=None, **params):
    net, x = build("late", 12, dtype)
    posterior = last_layer_posterior(net, log_softmax, [x], prior_precision=prior_precision)
    return LaplaceMembers(net, log_softmax, posterior, n_members=n_members, **params), net, x


class TestLaplaceMembers:
    def test_mean_of_many_members_is_near_the_network(self):
        net, x = build("late", 12, torch.float64)
        posterior = last_layer_posterior(net, log_softmax, [x], prior_precision=1.0)
        outputs = LaplaceMembers(net, identity, posterior, n_members=2000)(x)
        error = outputs.mean(0) - net.eval()(x).detach()
        assert (error.abs() < 4 * outputs.std(0) / 2000**0.5).all()
        assert outputs.std(0).min() > 0.1

    @pytest.mark.parametrize("plan", ["fold", "vmap", "loop"])
    def test_gradients_are_those_of_finite_differences(self, plan):
        members, _, x = laplace(3, plan=plan)
        assert members.plan(x) == plan
        assert torch.autograd.gradcheck(
            lambda values: mutual_information(members(values)), x[:2].requires_grad_()
        )

    def test_plans_agree(self):
        values = [laplace(plan=plan)[0](laplace()[2]) for plan in ("fold", "vmap", "loop", "auto")]
        for value in values[1:]:
            torch.testing.assert_close(value, values[0], rtol=0, atol=1e-12)

    @pytest.mark.parametrize(
        "make", [lambda: build("late")[0], Functional, lambda: nn.Linear(6, 3)]
    )
    def test_dropout_of_the_network_rests(self, make):
        net, x = make(), build("late")[1]
        posterior = last_layer_posterior(net, log_softmax, [x])
        # Then members are the network itself.
        certain = replace(posterior, prior_precision=1e15)
        log_probs = LaplaceMembers(net, log_softmax, certain, n_members=5)(x)
        expected = net.eval()(x).log_softmax(-1).detach().expand(5, -1, -1)
        torch.testing.assert_close(log_probs, expected)
        wide = LaplaceMembers(net, log_softmax, replace(posterior, prior_precision=1.0))
        assert (mutual_information(wide(x)) > 1e-3).all()

    def test_redrawn_members_are_those_of_a_new_object_with_that_seed(self):
        members, _, x = laplace(seed=1)
        assert torch.equal(members.redrawn(5)(x), laplace(seed=5)[0](x))
        assert not torch.equal(members.redrawn(5)(x), members(x))

    @pytest.mark.parametrize(
        ("other", "message"),
        [
            (lambda net: nn.Sequential(net[1]), "named '1', which Sequential does not have"),
            (lambda net: nn.Sequential(net[1], nn.ReLU()), "named '1', which Sequential does not"),
            (
                lambda net: nn.Sequential(net[0], nn.Linear(6, 4)),
                r"\(3, 6\).*\(4, 6\).*: fit it for",
            ),
            (lambda net: nn.Sequential(net[0], nn.Linear(6, 3, bias=False)), "'bias': None.*: fit"),
            (lambda net: nn.Sequential(net[0], nn.Linear(6, 3)), "other weights.*: fit it anew"),
        ],
    )
    def test_of_another_network_are_refused(self, other, message):
        net = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 3))
        with pytest.raises(ValueError, match=f"posterior .*{message}"):
            LaplaceMembers(other(net), log_softmax, fitted(net))

    @pytest.mark.parametrize("name", ["weight", "bias"])
    def test_of_a_network_that_was_trained_since_are_refused(self, name):
        net = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 3))
        posterior = fitted(net)
        for dtype in (torch.float64, torch.bfloat16):
            LaplaceMembers(copy.deepcopy(net).to(dtype), log_softmax, posterior)
        with torch.no_grad():
            getattr(net[1], name).add_(1e-3)
        with pytest.raises(ValueError, match=r"other weights .* was trained after its posterior"):
            LaplaceMembers(net, log_softmax, posterior)

    @pytest.mark.parametrize("posterior", [None, LastLayerPosterior, "1"])
    def test_without_a_posterior_are_refused(self, posterior):
        with pytest.raises(TypeError, match=r"posterior must be what .*last_layer_post"):
            LaplaceMembers(nn.Linear(6, 3), log_softmax, posterior)


class TestJoinedMembers:
    def test_are_all_members_of_an_ensemble_whose_networks_have_several(self):
        nets, x = ensemble()
        groups = [DropoutMembers(net, log_softmax, n_members=2 + k) for k, net in enumerate(nets)]
        members = JoinedMembers([*groups, EnsembleMembers(nets, [log_softmax] * 3)])
        assert members.n_members == 2 + 3 + 4 + 3
        log_probs = members(x)
        assert torch.equal(log_probs, torch.cat([group(x) for group in members.groups]))
        assert members.plan(x) == ", ".join(group.plan(x) for group in members.groups)
        assert (mutual_information(log_probs) <= math.log(3)).all()

    def test_groups_are_redrawn_independently(self):
        net, x = build("late")
        members = JoinedMembers([DropoutMembers(net, log_softmax, n_members=3) for _ in range(2)])
        redrawn = members.redrawn(4)
        first, second = redrawn(x).split(3)
        assert not torch.equal(first, second)
        assert torch.equal(redrawn(x), members.redrawn(4)(x))
        assert not torch.equal(redrawn(x), members.redrawn(5)(x))

    def test_without_groups_are_refused(self):
        with pytest.raises(ValueError, match="groups is empty"):
            JoinedMembers([])

    @pytest.mark.parametrize(
        ("groups", "message"),
        [
            (EnsembleMembers([nn.Linear(2, 2)], [log_softmax]), "groups .* got a EnsembleMembers"),
            (nn.Sequential(nn.Linear(2, 2)), "groups must be a list of members, got a Sequential"),
            (None, "groups must be a list of members, got a NoneType"),
            ([nn.Linear(2, 2)], r"groups\[0\] must be members, .* got a Linear"),
            ([DropoutMembers], r"groups\[0\] must be members, .* got the type DropoutMembers"),
        ],
    )
    def test_of_something_else_are_refused(self, groups, message):
        with pytest.raises(TypeError, match=message):
            JoinedMembers(groups)


def make_members(kind, net, x, head=log_softmax, **params):
    kind, _, plan = kind.partition(" ")
    params |= {"plan": plan} if plan else {}
    if kind == "dropout":
        return DropoutMembers(net, head, n_members=3, **params)
    if kind == "laplace":
        posterior = last_layer_posterior(net, log_softmax, [x])
        return LaplaceMembers(net, head, posterior, n_members=3, **params)
    if kind == "ensemble":
        return EnsembleMembers([net, net], [head, head], **params)
    groups = [make_members(k, net, x, head, **params) for k in ("dropout", "ensemble")]
    return JoinedMembers(groups)


def snapshot(net):
    return {
        "state": {name: tensor.clone() for name, tensor in net.state_dict().items()},
        "modules": [(type(m), m.training, sorted(vars(m))) for m in net.modules()],
        "parameters": [(id(p), p.requires_grad, id(p.grad), p.stride()) for p in net.parameters()],
        "grads": [None if p.grad is None else p.grad.clone() for p in net.parameters()],
        "hooks": [dict(m._forward_hooks) | dict(m._forward_pre_hooks) for m in net.modules()],
    }


def surroundings():
    numpy_state = np.random.get_state()  # noqa: NPY002
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_rng_state().tolist(),
        numpy_state[1].tolist(),
        numpy_state[2:],
        random.getstate(),
    )


KINDS = ["dropout fold", "dropout vmap", "dropout loop", "dropout auto", "laplace"]
KINDS += ["ensemble loop", "ensemble vmap", "joined"]


@pytest.fixture
def hasty_threads():
    """Let threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.parametrize("kind", KINDS)
class TestUsersNetwork:
    """The user's network is never touched."""

    @pytest.mark.parametrize("training", [True, False])
    def test_and_all_around_it_stays_as_it_was_after_success_and_after_errors(self, kind, training):
        net, x = build("convolutional")
        net(x).sum().backward()
        net.train(training)
        net[1].eval()
        net[0].requires_grad_(False)
        net[0].register_forward_hook(lambda *args: None)
        before, state = snapshot(net), surroundings()

        def failing(output):
            raise KeyError("head")

        with pytest.raises(KeyError, match="head"):
            make_members(kind, net, x, failing)(x)
        with pytest.raises(RuntimeError, match="channels"):
            make_members(kind, net, x)(x[:, :1])
        assert surroundings() == state
        x.requires_grad_()
        predictive_entropy(make_members(kind, net, x)(x)).sum().backward()
        assert x.grad.abs().max() > 0
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            inner = surroundings()
            make_members(kind, net, x)(x)
            assert surroundings() == inner
        assert surroundings() == state
        after = snapshot(net)
        for part in ("modules", "parameters", "hooks"):
            assert after[part] == before[part], part
        torch.testing.assert_close(after["state"], before["state"], rtol=0, atol=0)
        torch.testing.assert_close(after["grads"], before["grads"], rtol=0, atol=0)

    def test_can_be_trained_on_without_moving_the_members(self, kind):
        net, x = build("convolutional")
        members = make_members(kind, net, x)
        before = members(x)
        with torch.no_grad():
            for tensor in net.state_dict().values():
                tensor.add_(1)
        assert torch.equal(members(x), before)

    def test_may_hold_tensors_of_its_last_training_step(self, kind):
        class Remembering(nn.Sequential):
            def forward(self, x):
                self.features = super().forward(x)
                return self.features

        first = nn.utils.spectral_norm(nn.Linear(6, 9))
        net = Remembering(first, nn.Dropout(0.5), nn.Linear(9, 3))
        x = torch.ones(2, 6)
        net(x).sum().backward()
        features = net.features
        assert make_members(kind, net, x)(x).isfinite().all()
        assert net.features is features

    def test_members_survive_pickling_to_the_last_bit(self, kind):
        net, x = build("convolutional")
        members = make_members(kind, net, x)
        fresh = pickle.loads(pickle.dumps(members))
        expected = members(x)
        used = pickle.loads(pickle.dumps(members))
        for other in (fresh, used):
            assert torch.equal(other(x), expected)
            assert other.plan(x) == members.plan(x)
            assert torch.equal(other.redrawn(3)(x), members.redrawn(3)(x))

    def test_threads_may_share_members_from_the_first_call_on(self, kind, hasty_threads):
        net, x = build("convolutional")
        large = F.interpolate(x, scale_factor=2)
        alone = make_members(kind, net, x)
        expected = [alone(x), alone(large)]
        for _ in range(5):
            members, start = make_members(kind, net, x), threading.Barrier(4, timeout=20)

            def predict(images, members=members, start=start):
                start.wait()
                return [members(images) for _ in range(3)]

            with ThreadPoolExecutor(4) as pool:
                answers = list(pool.map(predict, [x, large, x, large]))
            for answer, values in zip(answers, expected * 2, strict=True):
                for value in answer:
                    torch.testing.assert_close(value, values, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["transformer", "functional", "stochastic depth"])
def test_members_of_every_kind_of_noise_survive_pickling(name):
    net, x = build(name)
    members = DropoutMembers(net, log_softmax, n_members=3)
    members(x)
    assert torch.equal(pickle.loads(pickle.dumps(members))(x), members(x))


class TestLowPrecision:
    @pytest.mark.parametrize("kind", ["dropout fold", "dropout loop", "laplace", "ensemble loop"])
    def test_gives_finite_values_and_gradients_near_those_of_full_precision(self, kind):
        net, x = build("convolutional")
        x.requires_grad_()
        full = make_members(kind, net, x)(x)
        low = make_members(kind, net, x, precision="bfloat16")(x)
        assert low.dtype == torch.float32
        assert not torch.equal(low, full)
        # bfloat16 rounds to 8 bits, 0.4 percent: activations of the order of one are wrong by some
        # thousandths layer by layer.
        torch.testing.assert_close(low, full, rtol=0, atol=0.03)
        gradients = [torch.autograd.grad(part.square().sum(), x)[0] for part in (low, full)]
        assert gradients[0].isfinite().all()
        similarity = F.cosine_similarity(*(g.flatten() for g in gradients), dim=0)
        assert similarity > 0.99

    @pytest.mark.parametrize("name", ["late", "residual", "functional", "attention pooling"])
    def test_tells_the_same_information_but_for_rounding(self, name):
        net, x = build(name, 40)
        full, low = (
            mutual_information(
                DropoutMembers(net, log_softmax, n_members=32, precision=precision)(x)
            )
            for precision in ("float32", "bfloat16")
        )
        # To first order its error is that of the log-probabilities, some thousandths, times the
        # members' disagreement, sqrt(2 MI).
        assert ((low - full).abs() <= 0.02 * (2 * full).sqrt() + 1e-4).all()

    def test_finds_plans_that_rounding_tells_from_a_loop(self):
        for name, plan in [("convolutional", "fold"), ("attention pooling", "vmap")]:
            net, x = build(name)
            members = DropoutMembers(net, log_softmax, plan=plan, precision="bfloat16")
            assert members.plan(x) == plan
