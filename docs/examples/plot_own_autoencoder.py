"""
Your own Keras autoencoder
==========================

:class:`~sklearn_ncae.ResidualDetector` puts residual, statistics and threshold around any estimator
that reconstructs images. :class:`~sklearn_ncae.KerasReconstructor` makes such an estimator of a
Keras model, through scikeras.
"""

import keras
import matplotlib.pyplot as plt
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from sklearn_ncae import KerasReconstructor, ResidualDetector, ResidualStatistics
from sklearn_ncae.baselines import MeanBrightnessDetector, PCAReconstructor
from sklearn_ncae.datasets import make_castings
from sklearn_ncae.inspection import ResidualMapDisplay
from sklearn_ncae.metrics import detection_scores

# %%
# The model
# ---------
# A function that builds it, for ``clone`` and searches to build it anew. ``meta`` tells the shape
# of the images. The images stay 0 to 255 outside: the model scales them, and scales its output
# back.


def build(meta, filters=16, code=16):
    """Build an autoencoder of strided convolutions with a dense code."""
    seed = iter(range(100))

    def start():
        return keras.initializers.GlorotUniform(seed=next(seed))

    images = keras.Input(meta["X_shape_"][1:])
    x = keras.layers.Rescaling(1 / 255)(images)
    for width in (filters, 2 * filters):
        x = keras.layers.Conv2D(
            width, 3, strides=2, padding="same", activation="relu", kernel_initializer=start()
        )(x)
    inner = x.shape[1:]
    x = keras.layers.Dense(code, kernel_initializer=start())(keras.layers.Flatten()(x))
    x = keras.layers.Dense(
        inner[0] * inner[1] * inner[2], activation="relu", kernel_initializer=start()
    )(x)
    x = keras.layers.Reshape(inner)(x)
    for width in (filters, 1):
        x = keras.layers.Conv2DTranspose(
            width,
            3,
            strides=2,
            padding="same",
            activation="relu" if width > 1 else None,
            kernel_initializer=start(),
        )(x)
    return keras.Model(images, keras.layers.Rescaling(255.0)(x))


# %%
# In a detector
# -------------
# A model of Keras wants a channel axis. Parameters of ``build`` are set as ``model__<name>``.

good = make_castings(240, 0, image_size=48, random_state=0).images[..., None]
test = make_castings(60, 60, image_size=48, random_state=1)
X_test = test.images[..., None]

keras.utils.set_random_seed(0)  # the order of the images in training
own = ResidualDetector(
    KerasReconstructor(
        build, loss="mse", optimizer="adam", epochs=20, batch_size=16, model__code=24
    ),
    statistic="mse",
    random_state=0,
).fit(good)
history = own.reconstructor_.history_["loss"]
print(f"loss from {history[0]:.0f} to {history[-1]:.0f}")

ResidualMapDisplay.from_estimator(
    own, X_test[[0, 1, 60, 61]], test.target[[0, 1, 60, 61]], masks=test.masks[[0, 1, 60, 61]]
)
plt.show()

# %%
# The reconstructions are much the same blurred casting each time, and the residual is full of
# edges. A blow hole can be seen in it, but it adds little to the mean of all squares.
#
# How good it is
# --------------
# The same detector around another reconstructor, and no model at all, to compare with.

contenders = {
    "own autoencoder": own,
    "principal components": clone(own).set_params(reconstructor=PCAReconstructor(24)).fit(good),
    "mean brightness": MeanBrightnessDetector().fit(good),
}
for name, detector in contenders.items():
    figures = detection_scores(detector, X_test, test.target)
    print(f"{name:21}", ", ".join(f"{key} {value:.2f}" for key, value in figures.items()))

# %%
# This small autoencoder does no better than chance by the mean squared error. Another statistic may
# see more in the same residuals: the largest deviation of a pixel.

column = list(ResidualStatistics().get_feature_names_out()).index("abs_max")
for name in ("own autoencoder", "principal components"):
    largest = contenders[name].residual_statistics(X_test)[:, column]
    print(f"{name:21} roc_auc of abs_max {roc_auc_score(test.target, -largest):.2f}")

# %%
# It helps the principal components, whose reconstructions follow the edges more closely. It does
# not help the autoencoder, whose residuals of good castings hold deviations as large as those of
# defects. To make the residual quiet on good parts comes first; a wider code, more images or a
# longer training may do that.
