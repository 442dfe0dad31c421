"""One street scene: layout, painting from far to near, then texture and camera noise.

`draw_scene` is a pure function of (seed, split, index, size).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from acamkd_core.datasets import scenes_actors as actors
from acamkd_core.datasets.scenes_canvas import (
    CLASSES,
    POLE,
    ROAD,
    SIDEWALK,
    SKY,
    SUPER,
    THINGS,
    TREE,
    Camera,
    Canvas,
    Color,
    Light,
)

LIGHTS: tuple[Light, ...] = (
    Light("day", (88, 140, 205), (190, 212, 232), (196, 208, 220), 130, (1.05, 1.03, 1.0), 1.0, 1, False),
    Light("day", (70, 122, 196), (204, 218, 228), (200, 210, 218), 150, (1.1, 1.05, 0.98), 1.0, -1, False),
    Light("overcast", (168, 174, 180), (204, 206, 208), (188, 192, 196), 75, (0.9, 0.92, 0.95), 0.2, 0, False),
    Light("fog", (196, 198, 200), (206, 208, 209), (204, 206, 208), 34, (0.88, 0.9, 0.92), 0.1, 0, False),
    Light("dusk", (58, 64, 104), (224, 150, 104), (150, 118, 118), 80, (0.72, 0.6, 0.62), 0.5, 1, True),
    Light("night", (14, 18, 34), (52, 50, 66), (40, 40, 54), 60, (0.36, 0.37, 0.46), 0.3, 0, True),
)
LIGHT_SHARES = (0.24, 0.2, 0.24, 0.1, 0.14, 0.08)


@dataclass(frozen=True)
class Scene:
    """A finished scene: `image` HxWx3 uint8, `mask` HxW uint8 class ids, boxes as (class, x, y, width, height)."""

    image: np.ndarray
    mask: np.ndarray
    boxes: list[tuple[int, int, int, int, int]]


def scene_rng(seed: int, split: str, index: int) -> np.random.Generator:
    """The generator of one scene; the split's name is hashed so that splits never share a scene."""
    word = int.from_bytes(hashlib.sha256(split.encode()).digest()[:8], "big")
    return np.random.default_rng([seed, word, index])


def draw_scene(seed: int, split: str, index: int, size: tuple[int, int]) -> Scene:
    """Draw one scene of `size` (height, width)."""
    rng = scene_rng(seed, split, index)
    height, width = size[0] * SUPER, size[1] * SUPER
    light = LIGHTS[int(rng.choice(len(LIGHTS), p=LIGHT_SHARES))]
    camera = Camera(
        width,
        height,
        focal=width * rng.uniform(0.62, 0.85),
        horizon=height * rng.uniform(0.36, 0.5),
        center=width * rng.uniform(0.4, 0.6),
        eye=rng.uniform(1.3, 2.1),
    )
    canvas = Canvas(camera, light)
    _sky(canvas, rng)
    actors.skyline(canvas, rng)
    road = _ground(canvas, rng)
    for _, paint in sorted(_population(canvas, rng, road), key=lambda entry: -entry[0]):
        paint()
    return _finish(canvas, rng, size)


def _sky(canvas: Canvas, rng: np.random.Generator) -> None:
    # At the final size and magnified: clouds are soft, and this would cost more than everything that stands.
    light, camera = canvas.light, canvas.camera
    height, width = camera.height // SUPER, camera.width // SUPER
    rows = np.clip(np.arange(height) * SUPER / max(camera.horizon, 1), 0, 1)[:, None, None] ** 1.3
    sky = np.array(light.sky_top) * (1 - rows) + np.array(light.sky_low) * rows
    clouds = _noise(rng, height, width, (3, 6, 12), stretch=2)
    cover = np.clip((clouds - rng.uniform(0.3, 0.9)) * 0.8, 0, 0.75)[:, :, None]
    white = np.array((236, 238, 240)) * (0.25 + 0.75 * min(1.0, light.gain[0])) * (0.25 if light.name == "night" else 1)
    picture = Image.fromarray((sky * (1 - cover) + white * cover).astype(np.uint8))
    canvas.color.paste(picture.resize((camera.width, camera.height), Image.Resampling.BILINEAR))


def _ground(canvas: Canvas, rng: np.random.Generator) -> tuple[float, float, float]:
    """Pavement everywhere, the road on it, its markings. Returns (left edge, right edge, walk width) in metres."""
    at = canvas.camera.at
    left, right = -rng.uniform(2.6, 6.0), rng.uniform(2.6, 6.0)
    walk = rng.uniform(1.8, 4.2)
    grey = rng.uniform(70, 118)
    asphalt: Color = (grey, grey + rng.uniform(-2, 4), grey + rng.uniform(0, 8))
    # Paving is a little lighter or darker than the road, never by a fixed step: position has to tell them apart.
    lift, warm = rng.uniform(-14, 46), rng.uniform(-3, 10)
    paving: Color = (grey + lift + warm, grey + lift, grey + lift - warm)
    depths = [0.6, *np.geomspace(1.2, 400, 26)]
    for kind, color, x0, x1 in ((SIDEWALK, paving, -300.0, 300.0), (ROAD, asphalt, left, right)):
        canvas.begin(kind)
        for near, far in zip(reversed(depths[:-1]), reversed(depths[1:]), strict=True):
            canvas.polygon([at(x0, 0, near), at(x1, 0, near), at(x1, 0, far), at(x0, 0, far)], color, near)
    kerb: Color = (paving[0] + 22, paving[1] + 22, paving[2] + 22)
    canvas.begin(SIDEWALK)
    for x, out in ((left, -0.22), (right, 0.22)):
        canvas.polygon([at(x, 0, 0.6), at(x + out, 0, 0.6), at(x + out, 0, 90), at(x, 0, 90)], kerb, 8)
    canvas.begin(ROAD)
    line: Color = (212, 212, 206)
    middle = (left + right) / 2
    if rng.random() < 0.7:
        for z in np.arange(2.0 + rng.uniform(0, 3), 60, 5.0):
            canvas.polygon([at(middle - 0.08, 0, z), at(middle + 0.08, 0, z),
                            at(middle + 0.08, 0, z + 2.4), at(middle - 0.08, 0, z + 2.4)], line, z)  # fmt: skip
    if rng.random() < 0.35:
        z = rng.uniform(6, 16)
        for x in np.arange(left + 0.3, right - 0.5, 1.0):
            canvas.polygon([at(x, 0, z), at(x + 0.5, 0, z), at(x + 0.5, 0, z + 3), at(x, 0, z + 3)], line, z)
    for _ in range(int(rng.integers(0, 5))):  # repairs and stains
        x, z = rng.uniform(left, right), rng.uniform(3, 25)
        tone = grey + rng.uniform(-26, 16)
        wide = min(rng.uniform(0.4, 1.6), right - x)
        canvas.polygon(
            [at(x, 0, z), at(x + wide, 0, z), at(x + wide, 0, z + 2), at(x, 0, z + 1.6)], (tone, tone, tone), z
        )
    if canvas.light.sun and canvas.light.shadow > 0.6:  # the shadow of the houses on the sunny side's opposite
        side = canvas.light.sun
        edge = (right + walk) if side > 0 else (left - walk)
        reach = edge - side * rng.uniform(1.5, 7)
        z = rng.uniform(4, 14)
        while z < 120:
            far = z + rng.uniform(8, 24)
            canvas.darken([at(edge, 0, z), at(reach, 0, z), at(reach, 0, far), at(edge, 0, far)], 0.5)
            z = far + rng.uniform(1, 8)
    return left, right, walk


def _population(
    canvas: Canvas, rng: np.random.Generator, road: tuple[float, float, float]
) -> list[tuple[float, Callable[[], None]]]:
    """Everything that stands, as (depth, painter); drawn choices are made here, in a fixed order."""
    left, right, walk = road
    things: list[tuple[float, Callable[[], None]]] = []

    def add(z: float, painter: Callable[..., None], *args: object) -> None:
        own = np.random.default_rng(rng.integers(2**63))
        things.append((z, lambda: painter(canvas, own, *args)))

    season = int(rng.choice(4, p=(0.4, 0.25, 0.2, 0.15)))
    for side, edge in ((-1, left - walk), (1, right + walk)):
        z, tall = rng.uniform(-4, 6), rng.uniform(4, 13)
        while z < 85:
            long = rng.uniform(7, 18)
            if rng.random() < 0.8:
                add(max(z, 0.9) + 0.01, actors.house, side, edge + side * rng.uniform(0, 0.6), z, z + long,
                    max(3.2, tall + rng.normal(0, 2.5)))  # fmt: skip
            else:
                for _ in range(3):
                    add(z + rng.uniform(1, long), actors.tree, edge + side * rng.uniform(1, 6), z + long / 2, season)
            z += long + (rng.uniform(0, 3) if rng.random() < 0.3 else 0)
    for side, edge in ((-1, left), (1, right)):
        if rng.random() < 0.6:
            start, step = rng.uniform(4, 12), rng.uniform(6, 14)
            for z in np.arange(start, 70, step):
                add(z, actors.tree, edge + side * 0.9, z, season)
        for z in np.arange(rng.uniform(6, 16), 60, rng.uniform(14, 26)):
            add(z, actors.pole, edge + side * 0.5, z, "lamp")
        for _ in range(int(rng.integers(0, 4))):
            z = float(rng.uniform(5, 26))
            add(z, actors.pole, edge + side * rng.uniform(0.4, 1.0), z, "sign" if rng.random() < 0.75 else "light")
        if rng.random() < 0.65:  # parked cars
            z = rng.uniform(3, 14)
            while z < 60:
                add(z, actors.car, edge - side * 1.05, z)
                z += rng.uniform(5.2, 11)
        for _ in range(int(rng.poisson(2.2))):
            z = float(rng.uniform(3.5, 24))
            add(z, actors.person, edge + side * rng.uniform(0.4, max(0.6, walk - 0.3)), z)
    for _ in range(int(rng.poisson(1.2))):
        z = float(rng.uniform(7, 45))
        add(z, actors.car, rng.choice((0.5, -0.5)) * (right - left) / 2 + (left + right) / 2, z)
    if rng.random() < 0.13:
        z = float(rng.uniform(9, 30))
        add(z, actors.car, rng.choice((0.45, -0.45)) * (right - left) / 2 + (left + right) / 2, z, True)
    if rng.random() < 0.3:
        z = float(rng.uniform(4, 16))
        add(z, actors.person, rng.uniform(left + 0.5, right - 0.5), z, True)
    if rng.random() < 0.3:
        z = float(rng.uniform(7, 20))
        add(z, actors.person, rng.uniform(left, right), z)
    return things


def _finish(canvas: Canvas, rng: np.random.Generator, size: tuple[int, int]) -> Scene:
    """Surface texture, optics and sensor; then down to the final size, and boxes of what is still visible."""
    height, width = size
    small = canvas.color.reduce(SUPER).filter(ImageFilter.BoxBlur(rng.uniform(0.0, 0.45)))
    pixels = np.asarray(small).astype(np.float32)
    instances = np.asarray(canvas.instances)[::SUPER, ::SUPER]
    mask = np.array(canvas.kinds, dtype=np.uint8)[instances]
    coarse, fine = _noise(rng, height, width, (6, 14)), _noise(rng, height, width, (40, 90))
    grain = np.full(len(CLASSES), 0.05, dtype=np.float32)
    grain[[SKY, POLE, TREE, ROAD]] = (0.0, 0.02, 0.16, 0.06)
    pixels *= (1 + grain[mask] * (fine + 0.5 * coarse))[:, :, None]
    rows, columns = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None, :]
    vignette = 1 - rng.uniform(0.05, 0.22) * (rows**2 + columns**2) / 2
    exposure = rng.uniform(0.82, 1.18) * rng.uniform(0.95, 1.05, 3)
    pixels *= (vignette[:, :, None] * exposure).astype(np.float32)
    noise = rng.uniform(2.0, 7.0) * (1.4 if canvas.light.lamps else 1.0)
    pixels += rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(noise)
    return Scene(np.clip(pixels, 0, 255).astype(np.uint8), mask, _boxes(instances, canvas.kinds))


def _boxes(instances: np.ndarray, kinds: list[int]) -> list[tuple[int, int, int, int, int]]:
    """Boxes around the visible part of every thing of at least 12 pixels."""
    boxes = []
    counts = np.bincount(instances.ravel(), minlength=len(kinds))
    for number, kind in enumerate(kinds):
        if kind in THINGS and counts[number] >= 12:
            ys, xs = np.nonzero(instances == number)
            x, y = int(xs.min()), int(ys.min())
            boxes.append((kind, x, y, int(xs.max()) - x + 1, int(ys.max()) - y + 1))
    return boxes


def _noise(rng: np.random.Generator, height: int, width: int, cells: tuple[int, ...], stretch: int = 1) -> np.ndarray:
    """Smooth noise (HxW float32, about -1 to 1): octaves of random grids, magnified."""
    total = np.zeros((height, width), dtype=np.float32)
    for octave, count in enumerate(cells):
        grid = rng.normal(0, 0.5, (count, max(2, count * width // (height * stretch)))).astype(np.float32)
        picture = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(picture) / 2**octave
    return total
