import dataclasses

import pytest
import torch
from torch import nn

from tsynd_sk.ascent import OBJECTIVES, ascend, displacement_norm
from tsynd_sk.members import DropoutMembers
from tsynd_sk.uncertainty import mean_log_proba, mutual_information

N, RADIUS = 12, 0.7


def log_softmax(logits):
    return logits.log_softmax(-1)


def confidence(log_probs, y):
    """Probability of the label: a user's own objective."""
    return mean_log_proba(log_probs).gather(1, y[:, None])[:, 0].exp()


class Task:
    """Codes (n, 2, 2, 2), images (n, 1, 4, 4) and three classes, with nothing trained."""

    def __init__(self, n_members=5, n=N):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.decoder = nn.Sequential(nn.ConvTranspose2d(2, 1, 2, stride=2), nn.Tanh())
            self.classifier = nn.Sequential(
                nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Dropout(0.5), nn.Linear(12, 3)
            )
            with torch.no_grad():
                self.classifier[-1].weight.mul_(4)
            self.z_0 = torch.randn(n, 2, 2, 2)
            self.y = torch.arange(n) % 3
        self.members = DropoutMembers(self.classifier, log_softmax, n_members=n_members)
        self.seen = []

    def decode(self, z):
        return self.decoder(z)

    def record(self, images):
        log_probs = self.members(images)
        self.seen.append((images.detach(), log_probs.detach()))
        return log_probs

    def __call__(self, members=None, **params):
        params = {"radius": RADIUS, **params}
        return ascend(members or self.record, self.decode, self.z_0, self.y, **params)


@pytest.fixture
def task():
    return Task()


GOALS = {**OBJECTIVES, "confidence": confidence}


class TestBestPoint:
    @pytest.mark.parametrize("max_iter", [1, 2, 10])
    @pytest.mark.parametrize("goal", GOALS)
    def test_objective_never_falls_below_the_start(self, task, goal, max_iter):
        objective = GOALS[goal]
        result = task(objective=objective, max_iter=max_iter)
        with torch.no_grad():
            before = objective(task.members(task.decode(task.z_0)), task.y)
            after = objective(task.members(result.images), task.y)
        assert (after >= before).all()
        assert after.mean() > before.mean() + (0.02 if max_iter == 10 else 0)

    @pytest.mark.parametrize("goal", GOALS)
    def test_best_iterate_is_kept_not_the_last(self, task, goal):
        objective = GOALS[goal]
        result = task(objective=objective)
        values = torch.stack([objective(log_probs, task.y) for _, log_probs in task.seen])
        assert len(values) == 11
        kept = objective(task.members(result.images), task.y)
        torch.testing.assert_close(kept.detach(), values.amax(0))

    def test_result_describes_its_images(self, task):
        result = task(objective=OBJECTIVES["entropy"])
        with torch.no_grad():
            torch.testing.assert_close(result.images, task.decode(result.latents))
            log_probs = task.members(result.images)
        torch.testing.assert_close(result.uncertainty, mutual_information(log_probs))
        assert torch.equal(result.agreement, log_probs.exp().mean(0).argmax(-1) == task.y)
        moved = displacement_norm(result.latents - task.z_0)
        torch.testing.assert_close(result.displacement, moved)
        assert result.agreement.dtype == torch.bool


class TestTrustRegion:
    @pytest.mark.parametrize("radius", [0.01, 0.5, 5.0])
    @pytest.mark.parametrize("goal", GOALS)
    def test_displacement_stays_within_the_radius(self, task, goal, radius):
        start = 100 * torch.randn(task.z_0.shape, generator=torch.Generator().manual_seed(1))
        for first in (None, start):
            result = task(objective=GOALS[goal], radius=radius, start=first)
            assert result.displacement.max() <= radius * (1 + 1e-5)
            reached = displacement_norm(result.latents - task.z_0)
            torch.testing.assert_close(result.displacement, reached, atol=1e-5, rtol=1e-4)

    def test_displacement_is_measured_in_standard_deviations_of_each_channel(self, task):
        scale = torch.tensor([10.0, 0.01]).reshape(1, 2, 1, 1)
        result = task(scale=scale)
        u = (result.latents - task.z_0) / scale
        torch.testing.assert_close(displacement_norm(u), result.displacement, atol=1e-4, rtol=1e-4)
        assert displacement_norm(u).max() <= RADIUS + 1e-4
        assert (result.latents - task.z_0)[:, 1].abs().max() <= 0.01 * RADIUS * 8**0.5 + 1e-5

    @pytest.mark.parametrize("scale", [1.0, torch.tensor([1.0, 4.0, 0.5, 2.0])])
    def test_linear_objective_ends_where_its_gradient_meets_the_surface(self, scale):
        weight = torch.tensor([1.0, -2.0, 0.5, 3.0])
        z_0 = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
        result = ascend(
            lambda x: torch.stack([x, x]),
            lambda z: z,
            z_0,
            torch.zeros(3, dtype=torch.int64),
            objective=lambda log_probs, y: log_probs.mean(0) @ weight,
            scale=scale,
            radius=0.3,
        )
        gradient = weight * scale
        expected = z_0 + scale * 0.3 * gradient / gradient.square().mean().sqrt()
        torch.testing.assert_close(result.latents, expected)
        torch.testing.assert_close(result.displacement, torch.full((3,), 0.3))

    def test_length_of_a_step_does_not_depend_on_the_size_of_the_gradient(self, task):
        plain = task()
        tiny = task(objective=lambda p, y: 1e-30 * mutual_information(p))
        torch.testing.assert_close(tiny.latents, plain.latents, atol=1e-4, rtol=1e-4)

    def test_rows_without_gradient_stay_at_their_start(self, task):
        result = task(objective=lambda p, y: 0 * mutual_information(p))
        assert torch.equal(result.latents, task.z_0)


class TestControls:
    def test_reconstruction_is_the_decoded_code_to_the_bit(self, task):
        result = task(objective=None)
        with torch.no_grad():
            assert torch.equal(result.images, task.decode(task.z_0))
        assert torch.equal(result.latents, task.z_0)
        assert (result.displacement == 0).all()
        assert len(task.seen) == 1


class TestRows:
    @pytest.mark.parametrize("goal", GOALS)
    def test_rows_do_not_depend_on_their_company(self, task, goal):
        params = {"objective": GOALS[goal], "radius": RADIUS}
        whole = task(**params)
        for i in range(N):
            row = ascend(
                task.members, task.decode, task.z_0[i : i + 1], task.y[i : i + 1], **params
            )
            for name in ("images", "latents", "displacement", "uncertainty"):
                torch.testing.assert_close(
                    getattr(row, name)[0], getattr(whole, name)[i], atol=1e-5, rtol=0
                )
            assert row.agreement[0] == whole.agreement[i]

    def test_scale_may_differ_from_row_to_row(self, task):
        scale = torch.rand(N, 2, 1, 1, generator=torch.Generator().manual_seed(2)) * 3 + 0.1
        whole = task(scale=scale)
        for i in range(N):
            row = slice(i, i + 1)
            alone = ascend(
                task.members, task.decode, task.z_0[row], task.y[row], scale=scale[i], radius=RADIUS
            )
            torch.testing.assert_close(whole.latents[i], alone.latents[0], atol=1e-5, rtol=0)

    def test_rows_whose_objective_is_nan_keep_their_start_and_harm_no_others(self, task):
        def objective(log_probs, y):
            return mutual_information(log_probs) * torch.where(y == 0, torch.nan, 1.0)

        result = task(objective=objective)
        plain = task()
        bad = task.y == 0
        assert torch.equal(result.latents[bad], task.z_0[bad])
        assert (result.displacement[bad] == 0).all()
        assert result.uncertainty.isfinite().all()
        torch.testing.assert_close(result.latents[~bad], plain.latents[~bad])


class TestMistakes:
    @pytest.mark.parametrize(
        ("objective", "came"),
        [
            (lambda p, y: mutual_information(p).sum(), r"\(\)"),
            (lambda p, y: mutual_information(p)[:, None], r"\(12, 1\)"),
            (lambda p, y: p.mean(0), r"\(12, 3\)"),
            (lambda p, y: mutual_information(p)[:-1], r"\(11,\)"),
            (lambda p, y: mutual_information(p).detach().numpy(), "ndarray"),
            (lambda p, y: None, "NoneType"),
        ],
    )
    def test_objective_of_another_shape_or_type_is_refused(self, task, objective, came):
        with pytest.raises(ValueError, match=rf"\(n_samples,\), here \(12,\); it returned {came}"):
            task(objective=objective)

    @pytest.mark.parametrize(
        "objective",
        [
            lambda p, y: mutual_information(p.detach()),
            lambda p, y: torch.zeros(N),
            lambda p, y: (p.mean(0).argmax(-1) == y).float(),
        ],
    )
    def test_objective_without_gradient_is_refused(self, task, objective):
        with pytest.raises(ValueError, match="objective must be differentiable"):
            task(objective=objective)

    @pytest.mark.parametrize(
        ("name", "wrong", "message"),
        [
            (
                "y",
                torch.zeros(N, 1, dtype=torch.int64),
                "y must have one label for each of the 12",
            ),
            ("y", torch.tensor(0), "y must have one label for each of the 12"),
            ("start", torch.zeros(1, 2, 2, 2), r"start must have the shape of z_0, \(12"),
            ("radius", -1.0, r"must not be negative; got radius=-1\.0"),
            ("max_iter", -1, r"must not be negative; .* max_iter=-1"),
        ],
    )
    def test_what_would_be_broadcast_or_mistaken_is_refused(self, task, name, wrong, message):
        params = {"z_0": task.z_0, "y": task.y, name: wrong}
        with pytest.raises(ValueError, match=message):
            ascend(task.members, task.decode, **params)

    def test_decoder_or_members_without_gradient_are_named(self, task):
        with pytest.raises(ValueError, match="decode and members must be differentiable"):
            task(members=torch.no_grad()(task.members))
        task.decode = torch.no_grad()(task.decode)
        with pytest.raises(ValueError, match="decode and members must be differentiable"):
            task()


class TestGradients:
    @pytest.mark.parametrize("caller", [True, False])
    def test_mode_of_the_caller_does_not_matter_and_is_put_back(self, task, caller):
        expected = Task()()
        with torch.set_grad_enabled(caller):
            with pytest.raises(ValueError, match="objective"):
                task(objective=lambda p, y: None)
            result = task()
            assert torch.is_grad_enabled() == caller
        assert torch.equal(result.images, expected.images)
        assert result.displacement.max() > 0.1

    def test_weights_and_inputs_gather_no_gradients(self, task):
        start = torch.full_like(task.z_0, 0.1).requires_grad_()
        task.z_0.requires_grad_()
        result = task(start=start)
        direct = task(members=lambda x: torch.stack([task.classifier(x).log_softmax(-1)] * 2))
        for parameter in [*task.decoder.parameters(), *task.classifier.parameters()]:
            assert parameter.requires_grad
            assert parameter.grad is None
        assert start.grad is None
        assert task.z_0.grad is None
        for field in dataclasses.fields(result):
            assert not getattr(result, field.name).requires_grad
            assert not getattr(direct, field.name).requires_grad

    def test_inputs_are_not_changed(self, task):
        z_0, y = task.z_0.clone(), task.y.clone()
        start = torch.full_like(z_0, 0.1)
        task(start=start, scale=torch.ones(2, 1, 1))
        assert torch.equal(task.z_0, z_0)
        assert torch.equal(task.y, y)
        assert (start == 0.1).all()


class TestCallback:
    def test_is_called_at_every_point_and_changes_nothing(self, task):
        points = []
        silent = task()
        predicted = task.seen.copy()
        told = task(callback=lambda *point: points.append(point))
        for field in dataclasses.fields(told):
            assert torch.equal(getattr(told, field.name), getattr(silent, field.name))
        assert [step for step, _ in points] == list(range(11))
        for (_, point), (images, log_probs) in zip(points, predicted, strict=True):
            assert torch.equal(point.images, images)
            assert torch.equal(point.uncertainty, mutual_information(log_probs))
            assert torch.equal(point.agreement, log_probs.exp().mean(0).argmax(-1) == task.y)
            moved = displacement_norm(point.latents - task.z_0)
            torch.testing.assert_close(point.displacement, moved)

    def test_points_stay_as_they_were_and_one_of_them_is_kept(self, task):
        points, copies = [], []

        def remember(step, point):
            points.append(point)
            copies.append(point.rows(torch.arange(N)))

        result = task(callback=remember)
        for point, then in zip(points, copies, strict=True):
            for field in dataclasses.fields(point):
                value = getattr(point, field.name)
                assert not value.requires_grad
                assert torch.equal(value, getattr(then, field.name))
        for row, kept in enumerate(result.latents):
            assert any(torch.equal(kept, point.latents[row]) for point in points)

    def test_controls_are_told_too(self, task):
        steps = []
        task(objective=None, callback=lambda step, _: steps.append(step))
        assert steps == [0]
