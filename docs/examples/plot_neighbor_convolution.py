"""
What a neighbour convolution sees
=================================

A neighbour convolution is a 3x3 convolution that leaves out the centre pixel. One such layer
cannot see the pixel that it computes. That is often read as "the network is blind to each pixel
it reconstructs", which is wrong for most stacks of layers. This example shows which are blind.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np

from sklearn_ncae import NeighborConv2D

# %%
# The layer
# ---------
# Eight neighbours, one weight each for every filter and channel, and a bias.

layer = NeighborConv2D(256)
layer.build((None, 300, 300, 1))
print("kernel", tuple(layer.kernel.shape), "parameters", layer.count_params())

# %%
# Paths through the layers
# ------------------------
# With all weights equal to one and without activation, a layer counts paths. A single bright
# pixel then shows how many paths lead from it to every pixel of the output. The windows are
# symmetric, so that this is also a picture of what the *output* pixel in the middle sees.


def paths(*dilation_rates: int) -> np.ndarray:
    """Count the paths from the centre pixel through neighbour convolutions."""
    values = np.zeros((1, 41, 41, 1), np.float32)
    values[0, 20, 20, 0] = 1
    for rate in dilation_rates:
        values = NeighborConv2D(
            1, dilation_rate=rate, activation=None, use_bias=False, kernel_initializer="ones"
        )(values)
    return keras.ops.convert_to_numpy(values)[0, :, :, 0]


stacks = {
    "one layer": (1,),
    "two layers": (1, 1),
    "dilated 1, 2, 3": (1, 2, 3),
    "dilated 1, 2, 4": (1, 2, 4),
    "dilated 1, 2, 4, 8": (1, 2, 4, 8),
}
fig, axes = plt.subplots(1, len(stacks), figsize=(11, 2.7), layout="constrained")
for ax, (name, rates) in zip(axes, stacks.items(), strict=True):
    count = paths(*rates)
    print(f"{name:19} {count[20, 20]:2.0f} paths from the centre pixel to itself")
    ax.imshow(np.ma.masked_equal(count, 0), cmap="viridis_r", extent=(-20.5, 20.5, 20.5, -20.5))
    ax.plot(0, 0, "o", markersize=4, color="none" if count[20, 20] else "red")
    ax.set_title(f"{name}\n{'sees' if count[20, 20] else 'blind to'} its own pixel", fontsize=10)
    reach = sum(rates) + 2
    ax.set(xlim=(-reach, reach), ylim=(reach, -reach), xticks=[], yticks=[])
plt.show()

# %%
# White is not seen. The red dots mark the two kinds of stacks that do not see their own pixel:
#
# - a single layer;
# - layers whose dilation rates are *superincreasing*: each larger than the sum of those before,
#   such as 1, 2, 4, 8. No step can then be undone by the others.
#
# Two undilated layers see it again, one step away and back, by eight paths. Dilations of 1, 2, 3
# see it as well, because 1 + 2 - 3 = 0.
#
# Strides
# -------
# With strides of 2, a layer has a window for every second row and column. Each pixel is in the
# windows around it, but for every fourth: that is in the centre of the only window that has it, and
# no neighbour convolution that follows can see what this one does not.

image = np.random.default_rng(0).normal(size=(1, 8, 8, 1)).astype(np.float32)
changed = image + np.eye(64, dtype=np.float32).reshape(64, 8, 8, 1)
layers = {
    "neighbour convolution": NeighborConv2D(4, strides=2, activation=None),
    "ordinary convolution": keras.layers.Conv2D(4, 3, strides=2, padding="same"),
}
for name, layer in layers.items():
    outputs = keras.ops.convert_to_numpy(layer(np.concatenate([image, changed])))
    seen = (outputs[1:] != outputs[0]).any(axis=(1, 2, 3))
    print(f"{name:21} sees {seen.sum()} of {seen.size} pixels")

# %%
# What this means for the detector
# --------------------------------
# The network that :class:`~sklearn_ncae.NCAEDetector` trains to repair is several layers deep, and
# takes its strides with ordinary convolutions, so that it sees every pixel. The one that it trains
# to reconstruct, as in the article, takes them with neighbour convolutions, and does not see every
# fourth. Nothing in this package relies on a blind spot. Without strides, leaving out the centre is
# a mild restriction of the kernels.
