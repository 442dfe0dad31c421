"""What stands in a street scene: houses, trees, poles and signs, vehicles, people.

Every painter takes the canvas, a generator and a place in metres. Colours are shared on purpose (a grey coat, a
grey car, a grey wall; posters on walls look like signs), so that colour alone does not tell the class.
"""

from __future__ import annotations

import numpy as np

from acamkd_core.datasets.scenes_canvas import (
    BUILDING,
    BUS,
    CAR,
    CYCLIST,
    PEDESTRIAN,
    POLE,
    SIGN,
    TREE,
    Canvas,
    Color,
)

Rng = np.random.Generator

# Walls, paint and clothes come from one pool.
PAINT: tuple[Color, ...] = (
    (178, 172, 165),
    (120, 118, 116),
    (72, 74, 80),
    (205, 200, 190),
    (150, 70, 55),
    (168, 120, 86),
    (196, 172, 120),
    (60, 78, 110),
    (88, 110, 80),
    (160, 50, 48),
    (214, 214, 212),
    (44, 46, 52),
    (120, 140, 160),
)
SKIN: tuple[Color, ...] = ((222, 184, 150), (180, 132, 98), (120, 82, 60))


def pick(rng: Rng, pool: tuple[Color, ...], jitter: float = 14.0) -> Color:
    """A colour of the pool, slightly changed."""
    base = pool[int(rng.integers(len(pool)))]
    shift = rng.normal(0, jitter, 3)
    return (base[0] + shift[0], base[1] + shift[1], base[2] + shift[2])


def house(canvas: Canvas, rng: Rng, side: int, x: float, z0: float, z1: float, height: float) -> None:
    """A house along the street: its street wall (x, z0..z1) in perspective, and the gable that faces the camera."""
    canvas.begin(BUILDING)
    at, wall = canvas.camera.at, pick(rng, PAINT)
    sunny = 1.12 if canvas.light.sun == -side else 0.86
    z0 = max(z0, 0.9)
    depth = rng.uniform(7, 14)
    front = [at(x, 0, z0), at(x + side * depth, 0, z0), at(x + side * depth, height, z0), at(x, height, z0)]
    canvas.polygon(front, wall, z0, 0.8)
    if rng.random() < 0.4:  # a gable roof
        canvas.polygon([front[3], front[2], at(x + side * depth / 2, height + 2.5, z0)], pick(rng, PAINT), z0, 0.7)
    canvas.polygon([at(x, 0, z0), at(x, 0, z1), at(x, height, z1), at(x, height, z0)], wall, (z0 + z1) / 2, sunny)
    glass: Color = (235, 205, 130) if canvas.light.lamps else (92, 112, 134)
    storey, column = rng.uniform(2.7, 3.4), rng.uniform(1.8, 3.2)
    shop = rng.random() < 0.5
    for level in range(int(height / storey)):
        low = level * storey + 0.9
        high = low + storey * 0.52
        steps = int((z1 - z0) / column)
        for step in range(steps):
            a = z0 + (step + 0.25) * column
            b = a + column * 0.5
            if canvas.camera.scale(a) * (high - low) < 4:  # drawn pixels: smaller windows would be noise
                break
            color = glass if rng.random() < 0.7 else (58, 66, 78)
            bottom, top = (0.2, 2.6) if shop and level == 0 else (low, high)
            canvas.polygon([at(x, bottom, a), at(x, bottom, b), at(x, top, b), at(x, top, a)], color, a, sunny)
    if shop:
        canvas.polygon([at(x, 2.7, z0), at(x, 2.7, z1), at(x, 3.2, z1), at(x, 3.2, z0)], pick(rng, PAINT), z0, sunny)
    if rng.random() < 0.35:  # a poster: looks like a sign, belongs to the wall
        a = rng.uniform(z0, z1)
        b, color = a + 1.6, pick(rng, ((200, 40, 40), (230, 200, 40), (40, 90, 180)))
        canvas.polygon([at(x, 1.4, a), at(x, 1.4, b), at(x, 2.9, b), at(x, 2.9, a)], color, a, sunny)


def skyline(canvas: Canvas, rng: Rng) -> None:
    """Far houses behind everything, half lost in the haze."""
    x = -90.0
    while x < 90:
        wide, z = rng.uniform(6, 16), rng.uniform(75, 110)
        if rng.random() < 0.72:
            canvas.begin(BUILDING)
            canvas.quad(x, x + wide, 0, rng.uniform(5, 20), z, pick(rng, PAINT))
        else:
            canvas.begin(TREE)
            cx, cy = canvas.camera.at(x + wide / 2, 3, z)
            radius = canvas.camera.scale(z) * wide * 0.6
            canvas.ellipse(cx, cy, radius, radius * 0.8, pick(rng, ((70, 96, 52), (92, 104, 60))), z)
        x += wide * rng.uniform(0.7, 1.1)


def tree(canvas: Canvas, rng: Rng, x: float, z: float, season: int) -> None:
    """A street tree: trunk and a crown of lit and shaded tufts. Season 2 is autumn, 3 is bare."""
    if z < 5 or not canvas.sees(x, z, 5.0):  # a crown nearer than that would fill the picture
        return
    height, crown = rng.uniform(4.0, 7.5), rng.uniform(1.2, 2.3)
    canvas.shadow(x, z, crown, crown * 1.2)
    canvas.begin(TREE)
    at, scale = canvas.camera.at, canvas.camera.scale(z)
    bark = pick(rng, ((84, 68, 54), (70, 62, 56)), 6)
    base, top = at(x, 0, z), at(x, height, z)
    canvas.line(base, (base[0], at(x, height * 0.7, z)[1]), 0.28 * scale, bark, z)
    if season == 3:
        for _ in range(12):
            angle, reach = rng.uniform(-1.2, 1.2), rng.uniform(0.5, 1.0) * crown * scale
            start = at(x, height * rng.uniform(0.45, 0.8), z)
            end = (start[0] + np.sin(angle) * reach, start[1] - np.cos(angle) * reach)
            canvas.line(start, end, 0.1 * scale, bark, z)
        return
    greens: tuple[Color, ...] = ((62, 92, 40), (84, 112, 52), (52, 80, 46))
    autumn: tuple[Color, ...] = ((150, 98, 40), (136, 66, 38), (148, 128, 60))
    leaf = pick(rng, autumn if season == 2 else greens, 8)
    tufts = 16 if z < 20 else 9 if z < 40 else 5
    for tuft in range(tufts):
        angle, reach = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random()) * crown
        dx, dy = np.cos(angle) * reach, np.sin(angle) * reach * 0.85
        shade = 0.72 + 0.25 * (-dy / crown + 0.5) + 0.15 * canvas.light.sun * dx / crown + rng.uniform(-0.12, 0.12)
        radius = rng.uniform(0.35, 0.7) * crown * scale * (0.7 if tuft > tufts // 2 else 1.0)
        center = (top[0] + dx * scale, top[1] + (crown * 0.3 + dy) * scale)
        canvas.ellipse(center[0], center[1], radius, radius * 0.8, leaf, z, max(0.45, shade))


def pole(canvas: Canvas, rng: Rng, x: float, z: float, kind: str) -> None:
    """A lamp post, a sign post or a traffic light; what hangs on it is class `sign`, the post is `pole`."""
    if not canvas.sees(x, z, 3.0):
        return
    at, scale = canvas.camera.at, canvas.camera.scale(z)
    height = {"lamp": 6.5, "sign": 2.6, "light": 3.6}[kind]
    grey = pick(rng, ((110, 112, 116), (70, 74, 78), (150, 150, 148)), 6)
    canvas.begin(POLE)
    top = at(x, height, z)
    canvas.line(at(x, 0, z), top, 0.13 * scale, grey, z)
    if kind == "lamp":
        arm = (top[0] - np.sign(x) * 1.3 * scale, top[1] - 0.15 * scale)
        canvas.line(top, arm, 0.1 * scale, grey, z)
        glow: Color = (255, 240, 180) if canvas.light.lamps else (190, 190, 185)
        canvas.ellipse(arm[0], arm[1], 0.3 * scale, 0.14 * scale, glow, z, 1.6 if canvas.light.lamps else 1.0)
        return
    canvas.begin(SIGN)
    if kind == "light":
        canvas.quad(x - 0.25, x + 0.25, height - 1.0, height + 0.1, z, (36, 38, 40))
        lamp = int(rng.integers(3))
        glowing: Color = ((230, 50, 40), (240, 190, 50), (60, 210, 110))[lamp]
        spot = at(x, height - 0.15 - 0.3 * lamp, z)
        canvas.ellipse(spot[0], spot[1], 0.13 * scale, 0.13 * scale, glowing, z, 1.3)
        return
    half = rng.uniform(0.38, 0.6)
    color = pick(rng, ((196, 40, 40), (40, 90, 180), (226, 196, 50), (225, 225, 222)), 8)
    shape = rng.integers(3)
    if shape == 0:
        canvas.ellipse(top[0], top[1], half * scale, half * scale, color, z)
        canvas.ellipse(top[0], top[1], half * 0.6 * scale, half * 0.6 * scale, (230, 230, 226), z)
    elif shape == 1:
        canvas.quad(x - half, x + half, height - half, height + half, z, color)
        canvas.quad(x - half * 0.5, x + half * 0.5, height - half * 0.2, height + half * 0.2, z, (232, 232, 228))
    else:
        points = [at(x - half, height - half, z), at(x + half, height - half, z), at(x, height + half, z)]
        canvas.polygon(points, color, z)


def car(canvas: Canvas, rng: Rng, x: float, z: float, bus: bool = False) -> None:
    """A car or bus seen from behind or ahead: the near face, and the flank that turns towards the camera."""
    kind = BUS if bus else CAR
    wide = 2.5 if bus else rng.uniform(1.65, 1.95)
    high = 3.1 if bus else rng.uniform(1.35, 1.75)
    long = 10.0 if bus else rng.uniform(3.6, 4.6)
    canvas.shadow(x, z + long / 3, wide * 0.75, long * 0.6)
    canvas.begin(kind)
    at = canvas.camera.at
    paint = pick(rng, PAINT)
    x0, x1, z1 = x - wide / 2, x + wide / 2, z + long
    waist = high * (0.42 if bus else 0.55)
    glass: Color = (58, 70, 84)
    if canvas.camera.scale(z) < 5:  # far away a body is all one can see
        canvas.quad(x0, x1, 0.1, high, z, paint)
        return
    inner = x0 if x0 > 0 else x1 if x1 < 0 else None  # the flank that can be seen
    tyre = 0.45 if bus else 0.32
    if inner is not None:
        a, b = (z, z1)
        canvas.polygon(
            [at(inner, 0.25, a), at(inner, 0.25, b), at(inner, waist, b), at(inner, waist, a)], paint, z, 0.78
        )
        lean = 0.0 if bus else 0.18
        roof_a, roof_b = a + lean * long, b - lean * long
        inset = inner - np.sign(inner) * -0.12
        canvas.polygon([at(inner, waist, a), at(inner, waist, b), at(inset, high, roof_b), at(inset, high, roof_a)],
                       paint if bus else glass, z, 0.78)  # fmt: skip
        if bus:
            for window in np.arange(a + 0.4, b - 1, 1.5):
                canvas.polygon([at(inner, waist + 0.2, window), at(inner, waist + 0.2, window + 1.2),
                                at(inner, high - 0.4, window + 1.2), at(inner, high - 0.4, window)], glass, z)  # fmt: skip
        for wheel in (a + long * 0.18, a + long * 0.8):
            spot, size = at(inner, tyre, wheel), canvas.camera.scale(wheel) * tyre
            canvas.ellipse(spot[0], spot[1], size * 0.6, size, (26, 26, 28), z)
    ahead = rng.random() < 0.5
    canvas.quad(x0 + 0.1, x0 + 0.38, 0, tyre * 1.6, z, (22, 22, 24))
    canvas.quad(x1 - 0.38, x1 - 0.1, 0, tyre * 1.6, z, (22, 22, 24))
    canvas.quad(x0, x1, 0.25, waist, z, paint)
    taper = 0.05 if bus else 0.22
    canvas.polygon(
        [at(x0, waist, z), at(x1, waist, z), at(x1 - taper, high, z), at(x0 + taper, high, z)], paint, z, 1.08
    )
    canvas.polygon([at(x0 + 0.12, waist + 0.05, z), at(x1 - 0.12, waist + 0.05, z),
                    at(x1 - taper - 0.1, high - 0.12, z), at(x0 + taper + 0.1, high - 0.12, z)], glass, z)  # fmt: skip
    lamp: Color = (245, 240, 215) if ahead else (190, 30, 30)
    bright = 1.7 if canvas.light.lamps else 1.0
    for left in (x0 + 0.08, x1 - 0.38):
        canvas.quad(left, left + 0.3, waist - 0.3, waist - 0.12, z, lamp, bright)
    canvas.quad(x - 0.25, x + 0.25, 0.42, 0.54, z, (214, 214, 205))


def person(canvas: Canvas, rng: Rng, x: float, z: float, riding: bool = False) -> None:
    """A pedestrian, or a cyclist with the bicycle as one class."""
    if not canvas.sees(x, z, 1.5):
        return
    canvas.shadow(x, z, 0.45, 0.5)
    canvas.begin(CYCLIST if riding else PEDESTRIAN)
    at, scale = canvas.camera.at, canvas.camera.scale(z)
    size = rng.uniform(0.82, 1.08)
    coat, legs = pick(rng, PAINT), pick(rng, PAINT, 8)
    lift = 0.35 if riding else 0.0
    if riding:
        for dx in (-0.5, 0.5):
            spot = at(x + dx, 0.34, z)
            canvas.ellipse(spot[0], spot[1], 0.34 * scale, 0.34 * scale, (30, 30, 32), z)
            canvas.ellipse(spot[0], spot[1], 0.22 * scale, 0.22 * scale, (104, 104, 104), z)
        canvas.line(at(x - 0.5, 0.4, z), at(x + 0.45, 0.85, z), 0.09 * scale, pick(rng, PAINT), z)
    stride = rng.uniform(0.05, 0.3) if not riding else 0.15
    hip = at(x, 0.85 * size + lift, z)
    for dx, shade in ((-stride, 0.8), (stride, 1.0)):
        canvas.line(hip, at(x + dx, 0.02 + lift * 0.6, z), 0.17 * scale, legs, z, shade)
    shoulder = 0.23 * size
    canvas.quad(x - shoulder, x + shoulder, 0.8 * size + lift, 1.45 * size + lift, z, coat)
    for side in (-1, 1):
        swing = rng.uniform(-0.12, 0.12)
        hand = at(x + side * (shoulder + 0.05) + swing, 0.85 * size + lift, z)
        canvas.line(at(x + side * shoulder, 1.4 * size + lift, z), hand, 0.12 * scale, coat, z, 0.85)
    head = at(x, 1.6 * size + lift, z)
    canvas.ellipse(head[0], head[1], 0.12 * scale, 0.15 * scale, pick(rng, SKIN, 6), z)
    if rng.random() < 0.6:
        canvas.ellipse(head[0], head[1] - 0.07 * scale, 0.13 * scale, 0.09 * scale, pick(rng, PAINT), z)
