"""Camera, light and canvas of the procedural street scenes.

World coordinates are metres: X to the right, Y up, Z ahead. The camera stands at the origin of X and Z. Two
pictures are painted at once, far to near: colour and instance ids (an instance has a class); the nearest paint wins,
which is what occlusion is. Everything is drawn at `SUPER` times the final size, so that colours are anti-aliased and ids are not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw

SUPER = 2
Color = tuple[float, float, float]
Point = tuple[float, float]

# (name, colour): ids are positions. Colours follow the usual street-scene palettes.
CLASSES: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("sky", (70, 130, 180)),
    ("road", (128, 64, 128)),
    ("sidewalk", (244, 35, 232)),
    ("building", (70, 70, 70)),
    ("tree", (107, 142, 35)),
    ("pole", (153, 153, 153)),
    ("sign", (220, 220, 0)),
    ("car", (0, 0, 142)),
    ("bus", (0, 150, 140)),
    ("pedestrian", (220, 20, 60)),
    ("cyclist", (255, 140, 0)),
)
SKY, ROAD, SIDEWALK, BUILDING, TREE, POLE, SIGN, CAR, BUS, PEDESTRIAN, CYCLIST = range(len(CLASSES))
THINGS = (SIGN, CAR, BUS, PEDESTRIAN, CYCLIST)  # classes that get boxes


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: size in drawn pixels, focal length, horizon row, principal column, height in metres."""

    width: int
    height: int
    focal: float
    horizon: float
    center: float
    eye: float

    def at(self, x: float, y: float, z: float) -> Point:
        """Image point of a world point (Z is kept in front of the camera)."""
        z = max(z, 0.6)
        return self.center + self.focal * x / z, self.horizon + self.focal * (self.eye - y) / z

    def scale(self, z: float) -> float:
        """Pixels per metre at depth z."""
        return self.focal / max(z, 0.6)


@dataclass(frozen=True)
class Light:
    """One weather: sky colours, haze, gains, and the sun's side (-1 left, +1 right, 0 none)."""

    name: str
    sky_top: Color
    sky_low: Color
    haze: Color
    haze_depth: float
    gain: Color
    shadow: float
    sun: int
    lamps: bool


@dataclass
class Canvas:
    """The two pictures, and the painter's current instance."""

    camera: Camera
    light: Light
    color: Image.Image = field(init=False)
    instances: Image.Image = field(init=False)
    kinds: list[int] = field(init=False, default_factory=lambda: [SKY])  # class of every instance, by instance id

    def __post_init__(self) -> None:
        size = (self.camera.width, self.camera.height)
        self.color = Image.new("RGB", size)
        self.instances = Image.new("I", size, 0)
        self._paint = ImageDraw.Draw(self.color)
        self._mark = ImageDraw.Draw(self.instances)
        self._instance = 0

    def begin(self, kind: int) -> None:
        """From now on paint belongs to a new instance of this class."""
        self._instance = len(self.kinds)
        self.kinds.append(kind)

    def sees(self, x: float, z: float, reach: float) -> bool:
        """Whether something at (x, z) that is `reach` metres wide on either side may be in the picture."""
        middle, half = self.camera.at(x, 0, z)[0], reach * self.camera.scale(z)
        return middle + half > 0 and middle - half < self.camera.width

    def lit(self, color: Color, z: float, shade: float = 1.0) -> tuple[int, int, int]:
        """A surface colour under this light, seen through the haze of depth z."""
        light = self.light
        through = math.exp(-z / light.haze_depth)
        own, far = shade * through, 1 - through
        gain, haze = light.gain, light.haze
        red = color[0] * gain[0] * own + haze[0] * far
        green = color[1] * gain[1] * own + haze[1] * far
        blue = color[2] * gain[2] * own + haze[2] * far
        return int(min(255.0, max(0.0, red))), int(min(255.0, max(0.0, green))), int(min(255.0, max(0.0, blue)))

    def polygon(self, points: Sequence[Point], color: Color, z: float, shade: float = 1.0) -> None:
        """A filled polygon."""
        flat = [(round(x), round(y)) for x, y in points]
        self._paint.polygon(flat, fill=self.lit(color, z, shade))
        self._mark.polygon(flat, fill=self._instance)

    def ellipse(self, x: float, y: float, rx: float, ry: float, color: Color, z: float, shade: float = 1.0) -> None:
        """A filled ellipse around (x, y)."""
        box = (round(x - rx), round(y - ry), round(x + rx), round(y + ry))
        self._paint.ellipse(box, fill=self.lit(color, z, shade))
        self._mark.ellipse(box, fill=self._instance)

    def line(self, a: Point, b: Point, width: float, color: Color, z: float, shade: float = 1.0) -> None:
        """A line at least one drawn pixel wide."""
        wide = max(1, round(width))
        ends = [(round(a[0]), round(a[1])), (round(b[0]), round(b[1]))]
        self._paint.line(ends, fill=self.lit(color, z, shade), width=wide)
        self._mark.line(ends, fill=self._instance, width=wide)

    def quad(
        self, x0: float, x1: float, y0: float, y1: float, z: float, color: Color, shade: float = 1.0, skew: float = 0.0
    ) -> None:
        """A rectangle facing the camera at depth z, from (x0, y0) to (x1, y1) in metres; `skew` shifts its top."""
        at = self.camera.at
        self.polygon([at(x0, y0, z), at(x1, y0, z), at(x1 + skew, y1, z), at(x0 + skew, y1, z)], color, z, shade)

    def shadow(self, x: float, z: float, rx: float, rz: float) -> None:
        """A soft dark patch on the ground, in colour only: shadows have no class of their own."""
        strength = 0.2 + 0.3 * self.light.shadow
        x += self.light.sun * -0.5 * rx * self.light.shadow
        cx, cy = self.camera.at(x, 0, z)
        top, low = self.camera.at(x, 0, z + rz)[1], self.camera.at(x, 0, z - min(rz, z * 0.4))[1]
        half = rx * self.camera.scale(z)
        box = (round(cx - half), round(top), round(cx + half), round(max(low, cy + 1)))
        if box[2] - box[0] < 2 or box[3] - box[1] < 1:
            return
        self.darken([(box[0], box[1]), (box[2], box[3])], strength, round_shape=True)

    def darken(self, points: Sequence[Point], strength: float, round_shape: bool = False) -> None:
        """Multiply the colours inside a polygon (or the ellipse of a box) by 1 - strength."""
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        left, top = max(0, int(min(xs))), max(0, int(min(ys)))
        right, low = min(self.camera.width, int(max(xs)) + 1), min(self.camera.height, int(max(ys)) + 1)
        if right <= left or low <= top:
            return
        stencil = Image.new("L", (right - left, low - top), 0)
        moved = [(x - left, y - top) for x, y in points]
        draw = ImageDraw.Draw(stencil)
        if round_shape:
            draw.ellipse([moved[0], moved[1]], fill=round(255 * strength))
        else:
            draw.polygon(moved, fill=round(255 * strength))
        self.color.paste((12, 12, 18), (left, top, right, low), stencil)
