"""Simulate recordings of an image that moves along a closed path before the camera.

The camera model is that of ESIM (Rebecq et al., CoRL 2018): a pixel emits an event whenever the
logarithm of its intensity has changed by a threshold since its last event, at the linearly
interpolated time.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from utils.events.recording import DVS128, Events


@dataclass(frozen=True)
class Camera:
    """Parameters of the camera and the motion; lengths in sensor pixels, times in microseconds.

    The sensor has `sensor` rows and columns. The image is `image_size` pixels wide and moves
    `rounds` times in a circle of this `radius` around a point near the centre of the sensor,
    sampled at `steps` times. `dark` is the intensity of black (white is 1), `threshold` the mean
    threshold in log intensity, `mismatch` the relative standard deviation of thresholds between
    pixels, `noise_rate` the rate of noise events in Hz per pixel.
    """

    duration: int = 1_200_000
    steps: int = 64
    rounds: int = 1
    image_size: float = 96.0
    radius: float = 5.0
    dark: float = 0.15
    threshold: float = 0.25
    mismatch: float = 0.03
    noise_rate: float = 0.1
    sensor: tuple[int, int] = DVS128

    @property
    def pixels(self) -> int:
        """The number of pixels of the sensor."""
        return self.sensor[0] * self.sensor[1]


def simulate(image: np.ndarray, rng: np.random.Generator, camera: Camera | None = None) -> Events:
    """Return the recording of a moving square `image` `(h, h)` with intensities 0..1.

    `rng` draws the start and the centre of the path, the thresholds of the pixels and the noise.
    Timestamps start near 0 and never decrease.
    """
    camera = camera or Camera()
    columns, rows = _path(camera, rng)
    intensity = _project(image, camera, rows, columns)
    log_intensity = np.log(camera.dark + (1 - camera.dark) * intensity)
    spread = rng.normal(1, camera.mismatch, camera.sensor).clip(0.5)
    levels = log_intensity / (camera.threshold * spread)
    # The level of each pixel's last event is random; if it were the initial level, all pixels would
    # fire together when the path closes.
    reference = levels[0] + rng.uniform(-1, 1, camera.sensor)
    signal = _crossings(levels, reference, camera.duration)
    t, pixel, p = np.concatenate([signal, _noise(camera, rng)], axis=1)
    order = np.argsort(t, kind="stable")
    y, x = np.divmod(pixel[order].astype(np.uint16), camera.sensor[1])
    x, y, p = (values.astype(np.uint8) for values in (x, y, p[order]))
    return Events(t[order], x, y, p, sensor=camera.sensor)


def _path(camera: Camera, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns and rows `(K+1,)` of the image centre along a closed circle.

    It is the same for all recordings, as in CIFAR10-DVS, up to small deviations of the starting
    point and the centre.
    """
    angle = rng.normal(0, 0.2) + camera.rounds * np.linspace(0, 2 * np.pi, camera.steps + 1)
    rows, columns = camera.sensor
    column, row = (np.array([columns, rows]) - 1) / 2 + rng.uniform(-2, 2, 2)
    return column + camera.radius * np.cos(angle), row + camera.radius * np.sin(angle)


def _project(
    image: np.ndarray, camera: Camera, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Return the intensities `(K+1, H, W)` on the sensor, bilinear, for each image centre."""
    height, width = camera.sensor
    down = _weights(len(image), camera.image_size, rows, height)  # (K+1, H, h)
    across = _weights(len(image), camera.image_size, columns, width)
    return down @ image.astype(np.float32) @ across.transpose(0, 2, 1)


def _weights(length: int, size: float, centres: np.ndarray, pixels: int) -> np.ndarray:
    """Return linear interpolation weights `(K+1, pixels, length)` float32 along one image axis.

    The `length` image pixels cover `size` sensor pixels around each of `centres` `(K+1,)`; beyond
    its ends the weights fall to zero.
    """
    sensor = np.arange(pixels, dtype=np.float32)
    offset = (sensor - centres[:, None]) * (length / size) + (length - 1) / 2
    distance = np.abs(offset[..., None].astype(np.float32) - np.arange(length, dtype=np.float32))
    return np.maximum(1 - distance, 0)


def _crossings(levels: np.ndarray, reference: np.ndarray, duration: int) -> np.ndarray:
    """Return the events `(3, n)` int64, rows t, pixel, p, of signals `levels` `(K+1, H, W)`.

    Signals are in units of the pixel's threshold and linear within a step. `reference` `(H, W)`
    is the level of each pixel's last event; the next event is one unit away from it.
    """
    levels, reference = levels.reshape(len(levels), -1), reference.ravel()
    step_time = duration / (len(levels) - 1)
    events = []
    for step, (before, after) in enumerate(pairwise(levels)):
        change = np.trunc(after - reference)
        pixel = np.flatnonzero(change)
        count = np.abs(change[pixel]).astype(np.int64)
        first = np.repeat(np.cumsum(count) - count, count)
        nth = np.arange(len(first)) - first + 1  # 1, 2, ... within each pixel
        pixel = np.repeat(pixel, count)
        sign = np.sign(change[pixel])
        share = (reference[pixel] + sign * nth - before[pixel]) / (after - before)[pixel]
        events.append(np.stack([(step + share) * step_time, pixel, sign > 0]).astype(np.int64))
        reference = reference + change
    return np.concatenate(events, axis=1)


def _noise(camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """Return noise events `(3, n)` int64, rows t, pixel, p, all uniformly distributed."""
    mean = camera.noise_rate * camera.pixels * camera.duration * 1e-6
    bounds = ([camera.duration], [camera.pixels], [2])
    return rng.integers(0, bounds, (3, rng.poisson(mean)))
