"""
How do I compute on a cluster?
==============================

You will learn how to run a grid search and draw a sample on the workers of a dask cluster, and how
to check that results are equal to the bit to those of one machine. Only the backend of joblib
changes.
"""

# %%
# A search
# --------
# Small networks and few epochs keep this lesson short. The grid has two radii.
import logging

import joblib
import numpy as np
from distributed import Client, LocalCluster
from sklearn.model_selection import GridSearchCV

from tsynd_sk import AugmentedClassifier, TargetedSynthesizer
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.datasets import load_digits_images

X, y, _ = load_digits_images()
X, y = X[:150], y[:150]

classifier = AugmentedClassifier(
    NetClassifier(max_epochs=6, lr=1e-2, module__width=8), TargetedSynthesizer(), random_state=0
)
grid = {"synthesizer__radius": [0.1, 0.25]}
search = GridSearchCV(classifier, grid, cv=2)

# %%
# On this machine
# ---------------
# Workers import this script, so its code stands under this condition, here and below.
if __name__ == "__main__":
    search.fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    synthesizer = search.best_estimator_.synthesizer_.set_params(batch_size=50)
    X_new, y_new = synthesizer.sample(300)
    print(search.best_params_, f"accuracy {search.best_score_:.3f}")

# %%
# On a cluster
# ------------
# On a real cluster, give ``Client`` the address of its scheduler. :doc:`/guide/clusters` says what
# workers need, and why images are scattered to them.
if __name__ == "__main__":
    cluster = LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        dashboard_address=None,
        silence_logs=logging.ERROR,  # dask warns of workers that take seconds to end
    )
    client = Client(cluster)
    with joblib.parallel_config(backend="dask", scatter=[X, y]):
        search.fit(X, y)
    print(search.best_params_, f"accuracy {search.best_score_:.3f}")
    print("equal scores:", np.array_equal(search.cv_results_["mean_test_score"], scores))

# %%
# A sample
# --------
# Each batch of ``batch_size`` images is a job. Each image has random numbers of its own, so it does
# not matter which worker computes it.
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
# Both lines that begin with "equal" must end in True. For so small a search a cluster saves no
# time, because workers first have to start and import everything. It pays off if a fit takes
# minutes.
#
# Try next
# --------
# - :doc:`/guide/clusters`: other backends, what is sent to workers, several GPUs.
# - :doc:`/guide/images`: images that do not fit in memory.
# - :doc:`/guide/reproducibility`: what equal bits require.
# - :doc:`/guide/speed`: what takes the time, before you use more machines.
# - What to search: :ref:`sphx_glr_auto_examples_plot_grid_search.py`.
