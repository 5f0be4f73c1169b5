"""Libraries that people put around the estimators; the extra "clients" installs them."""

import io

import numpy as np
import pytest
import torch
from helpers.tiny_nets import IMAGES, LABELS, X, augmented, net, own_net, synthesizer, y
from sklearn.model_selection import cross_validate
from skorch.callbacks import TensorBoard

from tsynd_sk import AugmentedClassifier
from tsynd_sk.augmentation import TransformRows
from tsynd_sk.classifiers import NetClassifier, Pretrained

PROBED, LABELS_PROBED = IMAGES[300:320], LABELS[300:320]


@pytest.fixture(scope="module")
def classifier():
    return augmented(net(max_epochs=4)).fit(X, y)


def probabilities(logits):
    return torch.as_tensor(logits).detach().softmax(1).numpy()


class TestNetwork:
    """Of any batch size, taken out of the classifier as the guide says."""

    def test_torch_export(self, classifier):
        example = torch.zeros(2, 1, 8, 8)
        rows = torch.export.Dim("rows")
        program = torch.export.export(classifier.module_, (example,), dynamic_shapes=({0: rows},))
        logits = program.module()(torch.from_numpy(PROBED[:, None]))
        expected = classifier.predict_proba(PROBED)
        np.testing.assert_allclose(probabilities(logits), expected, rtol=1e-4, atol=1e-6)

    @pytest.mark.slow
    def test_onnx(self, classifier):
        pytest.importorskip("onnx")
        pytest.importorskip("onnxscript")
        runtime = pytest.importorskip("onnxruntime")
        rows = torch.export.Dim("rows")
        program = torch.onnx.export(
            classifier.module_,
            (torch.zeros(2, 1, 8, 8),),
            input_names=["images"],
            dynamic_shapes=({0: rows},),
            dynamo=True,
        )
        file = io.BytesIO()
        program.save(file)
        session = runtime.InferenceSession(file.getvalue())
        [logits] = session.run(None, {"images": PROBED[:, None]})
        expected = classifier.predict_proba(PROBED)
        np.testing.assert_allclose(probabilities(logits), expected, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def pretrained():
    def resnet(n_channels, n_classes):
        return torchvision.models.resnet18(num_classes=n_classes)

    torchvision = pytest.importorskip("torchvision")
    return augmented(NetClassifier(Pretrained, module__net=resnet, max_epochs=1)).fit(X, y)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classifier", "pretrained"])
class TestCaptum:
    def test_integrated_gradients_add_up_to_the_difference_of_logits(self, kind, request):
        captum = pytest.importorskip("captum.attr")
        learned = request.getfixturevalue(kind)
        module, codes = learned.module_, torch.from_numpy(learned.predict(PROBED))
        x = torch.from_numpy(PROBED[:, None])
        attribution = captum.IntegratedGradients(module)
        maps = attribution.attribute(x, target=codes, n_steps=200, internal_batch_size=100)
        with torch.no_grad():
            rise = (module(x) - module(torch.zeros_like(x))).gather(1, codes[:, None])[:, 0]
        np.testing.assert_allclose(maps.sum((1, 2, 3)), rise, atol=0.05 * float(rise.abs().max()))

    def test_saliency_is_the_gradient(self, kind, request):
        captum = pytest.importorskip("captum.attr")
        learned = request.getfixturevalue(kind)
        before = learned.predict_proba(PROBED), learned.uncertainty(PROBED)
        codes = torch.from_numpy(learned.predict(PROBED))
        x = torch.from_numpy(PROBED[:, None]).requires_grad_()
        logits = learned.module_(x).gather(1, codes[:, None]).sum()
        (expected,) = torch.autograd.grad(logits, x)
        maps = captum.Saliency(learned.module_).attribute(x, target=codes)
        np.testing.assert_allclose(maps.detach(), expected.abs(), rtol=1e-4, atol=1e-6)
        # What captum hangs into a network is gone, and members are as before.
        with pytest.warns(UserWarning, match="hooks will be removed"):
            captum.GuidedBackprop(learned.module_).attribute(x, target=codes)
        np.testing.assert_array_equal(learned.predict_proba(PROBED), before[0])
        np.testing.assert_array_equal(learned.uncertainty(PROBED), before[1])


@pytest.mark.slow
class TestClients:
    @pytest.mark.parametrize("members", ["dropout", "laplace"])
    def test_skops_round_trips_to_the_bit(self, members):
        skops = pytest.importorskip("skops.io")
        fitted = augmented(net(max_epochs=3), synthesizer(members=members)).fit(X, y)
        data = skops.dumps(fitted)
        loaded = skops.loads(data, trusted=skops.get_untrusted_types(data=data))
        for method in ("predict_proba", "uncertainty"):
            one, other = getattr(fitted, method)(PROBED), getattr(loaded, method)(PROBED)
            np.testing.assert_array_equal(one, other)
        one, other = fitted.synthesizer_.sample(5)[0], loaded.synthesizer_.sample(5)[0]
        np.testing.assert_array_equal(one, other)

    def test_mlflow_round_trips_by_its_default_format(self, classifier, tmp_path):
        mlflow, skops = pytest.importorskip("mlflow"), pytest.importorskip("skops.io")
        trusted = skops.get_untrusted_types(data=skops.dumps(classifier))
        params = {"pip_requirements": [], "skops_trusted_types": trusted}
        mlflow.sklearn.save_model(classifier, tmp_path / "model", **params)
        loaded = mlflow.sklearn.load_model(str(tmp_path / "model"))
        for method in ("predict_proba", "uncertainty"):
            one, other = getattr(classifier, method)(PROBED), getattr(loaded, method)(PROBED)
            np.testing.assert_array_equal(one, other)

    def test_mapie_predicts_sets(self, classifier):
        mapie = pytest.importorskip("mapie.classification")
        conformal = mapie.SplitConformalClassifier(classifier, confidence_level=0.9, prefit=True)
        conformal.conformalize(IMAGES[80:300], LABELS[80:300])
        predicted, sets = conformal.predict_set(IMAGES[300:600])
        np.testing.assert_array_equal(predicted, classifier.predict(IMAGES[300:600]))
        assert 0.8 < sets[np.arange(300), LABELS[300:600], 0].mean() <= 1

    def test_optuna_prunes(self):
        optuna = pytest.importorskip("optuna")
        callbacks = pytest.importorskip("optuna_integration.skorch")
        pruner = optuna.pruners.ThresholdPruner(upper=-1.0)

        def objective(trial):
            callback = callbacks.SkorchPruningCallback(trial, "train_loss")
            augmented(own_net(callbacks=[callback], train_split=None)).fit(X, y)
            return 0.0

        study = optuna.create_study(pruner=pruner)
        study.optimize(objective, n_trials=1)
        [trial] = study.trials
        assert trial.state == optuna.trial.TrialState.PRUNED
        assert list(trial.intermediate_values) == [0] or list(trial.intermediate_values) == [1]

    def test_tensorboard_gets_every_epoch(self, tmp_path):
        pytest.importorskip("tensorboard")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(tmp_path)
        learned = augmented(own_net(callbacks=[TensorBoard(writer)])).fit(X, y)
        events = EventAccumulator(str(tmp_path)).Reload().Scalars("Loss/train_loss")
        np.testing.assert_allclose(
            [event.value for event in events], learned.history_[:, "train_loss"], rtol=1e-6
        )

    def test_albumentations_repeat_by_a_seed_of_their_own(self):
        albumentations = pytest.importorskip("albumentations")
        moved = albumentations.Compose(
            [albumentations.HorizontalFlip(p=0.5), albumentations.Rotate(20)], seed=0
        )

        def transform(image):
            rows = moved(image=image.permute(1, 2, 0).numpy())["image"]
            return torch.from_numpy(rows.reshape(8, 8, -1)).permute(2, 0, 1)

        def learn():
            moved.set_random_seed(0)
            estimator = net(max_epochs=3, iterator_train__collate_fn=TransformRows(transform))
            return augmented(estimator).fit(X, y).predict_proba(PROBED)

        first = learn()
        np.testing.assert_array_equal(learn(), first)
        plain = augmented(net(max_epochs=3)).fit(X, y).predict_proba(PROBED)
        assert (plain != first).any()


def test_zarr_in_cross_validation_by_dask(tmp_path):
    zarr, dask = pytest.importorskip("zarr"), pytest.importorskip("dask.array")
    stored = zarr.create_array(tmp_path / "x.zarr", shape=X.shape, dtype=X.dtype, chunks=(16, 8, 8))
    stored[:] = X

    def scores(images):
        return cross_validate(
            augmented(net(max_epochs=2)), images, y % 2, cv=2, return_estimator=True
        )

    lazy = scores(dask.from_zarr(zarr.open_array(tmp_path / "x.zarr", mode="r")))
    np.testing.assert_array_equal(lazy["test_score"], scores(X)["test_score"])
    for fitted in lazy["estimator"]:
        # Still outside of memory.
        assert isinstance(fitted.synthesizer_.engine_.images.array, dask.Array)


def test_closed_hdf5_file(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = X
    with h5py.File(tmp_path / "x.h5") as file:
        learned = augmented(net(max_epochs=4)).fit(file["x"], y)
        learned.save_params(tmp_path / "x.safetensors")
    # What needs no training image is answered.
    assert learned.predict(PROBED).shape == (20,)
    assert learned.uncertainty(PROBED).shape == (20,)
    with pytest.raises((OSError, ValueError)):
        learned.synthesizer_.sample(2)
    loaded = AugmentedClassifier(learned.estimator, learned.synthesizer, random_state=0)
    loaded.load_params(tmp_path / "x.safetensors")
    assert loaded.synthesizer_.synthesize(PROBED, LABELS_PROBED)[0].shape == PROBED.shape
