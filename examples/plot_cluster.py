"""
On a cluster
============

You will learn how to have a grid search and a sample computed by the workers of a dask cluster,
what workers need for that, and how to check that the results are the same to the bit as on one
machine: nothing changes but the backend of joblib.
"""

# %%
# What is searched
# ----------------
# Small nets that train for a few epochs on embedded digits keep this lesson short. The grid goes
# over a parameter of the synthesizer and one of the net.
import joblib
import numpy as np
from distributed import Client, LocalCluster
from sklearn.model_selection import GridSearchCV

from tsynd_sk import AugmentedClassifier, TargetedSynthesizer
from tsynd_sk.autoencoders import AutoencoderNet
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.datasets import load_digits_images

X, y, _ = load_digits_images()
X, y = X[:150], y[:150]

classifier = AugmentedClassifier(
    NetClassifier(max_epochs=6, module__width=8),
    TargetedSynthesizer(autoencoder=AutoencoderNet(max_epochs=2, epoch_size=320), max_iter=3),
    random_state=0,
)
grid = {"synthesizer__radius": [0.1, 0.25], "estimator__lr": [2e-3, 1e-2]}
search = GridSearchCV(classifier, grid, cv=2)

# %%
# On this machine
# ---------------
# Workers of a cluster import the script that starts them, hence the condition here and below.
if __name__ == "__main__":
    search.fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    synthesizer = search.best_estimator_.synthesizer_.set_params(batch_size=50)
    X_new, y_new = synthesizer.sample(300)
    print(search.best_params_, f"accuracy {search.best_score_:.3f}")

# %%
# On a cluster
# ------------
# With a real cluster there would be the address of its scheduler in ``Client``, and this package on
# all of its machines. One thread a worker is enough, for all nets that train in a process draw from
# the same generator of torch, and so take turns.
#
# ``scatter`` puts the images on all workers at once. Without it joblib leaves them to one worker,
# and a search that loses that worker ends in an error; with it, dask repeats the lost jobs
# elsewhere.
if __name__ == "__main__":
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    client = Client(cluster)
    with joblib.parallel_config(backend="dask", scatter=[X, y]):
        search.fit(X, y)
    print(search.best_params_, f"accuracy {search.best_score_:.3f}")
    print("equal scores:", np.array_equal(search.cv_results_["mean_test_score"], scores))

# %%
# A sample
# --------
# The synthesizer hands out its images in batches of ``batch_size``. Every image has random numbers
# of its own, so that it does not matter which worker computes it, nor whether one is lost.
if __name__ == "__main__":
    with joblib.parallel_config(backend="dask"):
        X_there, y_there = synthesizer.sample(300)
    print("equal samples:", np.array_equal(X_there, X_new) and np.array_equal(y_there, y_new))
    client.close()
    cluster.close()

# %%
# Some of both, and the difference between them, pixel by pixel:
if __name__ == "__main__":
    import matplotlib.pyplot as plt

    rows = {"here": X_new, "cluster": X_there, "difference": abs(X_there - X_new)}
    fig, axes = plt.subplots(3, 8, figsize=(8, 3.3), layout="constrained")
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(name)
        for ax, image in zip(line, images, strict=False):
            ax.imshow(image, cmap="gray", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
    plt.show()

# %%
# Both lines that begin with "equal" have to end in True. For searches this small a cluster saves no
# time, for its workers have to start and to import everything first. It pays where a single fit
# takes minutes.
#
# Images that no memory holds
# ---------------------------
# ``fit`` takes a `numpy.memmap`, or an array of zarr, h5py or dask, and reads it in parts. Each
# worker needs to reach the file.
#
# Many GPUs
# ---------
# A job trains on one device. To train a single net on several, give `AugmentedClassifier` a net
# with skorch's ``AccelerateMixin``, which leaves devices to Hugging Face's Accelerate; skorch's
# user guide tells how under "Hugging Face Integration".
#
# Try next
# --------
# - :doc:`/guide/clusters`: other backends, what is sent to workers, several GPUs.
# - :doc:`/guide/reproducibility`: what equal bits ask for.
# - :doc:`/guide/speed`: what takes the time, before you ask for more machines.
# - Which grids are worth it: :ref:`sphx_glr_auto_examples_plot_grid_search.py`.
