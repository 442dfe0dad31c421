"""CWD, PKD, MGD in float64 loops over Python and NumPy scalars, without one line of the code under test.

Maps are NumPy arrays [image][channel][row][column]. `slope` differentiates any of them by central differences.
"""

import math

import numpy as np


def slope(function, point, h=1e-5):
    """Gradient of a scalar function at an array, by central differences; `point` is left as it was."""
    gradient = np.zeros_like(point)
    for index in np.ndindex(*point.shape):
        kept = point[index]
        point[index] = kept + h
        above = function(point)
        point[index] = kept - h
        below = function(point)
        point[index] = kept
        gradient[index] = (above - below) / (2 * h)
    return gradient


def cwd(student, teacher, temperature):
    count, channels = student.shape[:2]
    total = 0.0
    for n in range(count):
        for c in range(channels):
            p = distribution(teacher[n, c].ravel(), temperature)
            q = distribution(student[n, c].ravel(), temperature)
            total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / (count * channels)


def distribution(row, temperature):
    top = max(row)
    powers = [math.exp((x - top) / temperature) for x in row]
    return [x / sum(powers) for x in powers]


def pkd(student, teacher):
    """Mean over channels of 1 - Pearson's r, from the definition of r."""
    channels, total = student.shape[1], 0.0
    for c in range(channels):
        s, t = list(student[:, c].ravel()), list(teacher[:, c].ravel())
        ms, mt = sum(s) / len(s), sum(t) / len(t)
        cov = sum((a - ms) * (b - mt) for a, b in zip(s, t, strict=True))
        total += 1 - cov / math.sqrt(sum((a - ms) ** 2 for a in s) * sum((b - mt) ** 2 for b in t))
    return total / channels


def conv3x3(maps, weight, bias):
    """3x3 convolution with zero padding of [channel][row][column]."""
    inputs, height, width = maps.shape
    out = np.zeros((weight.shape[0], height, width))
    for o in range(weight.shape[0]):
        for y in range(height):
            for x in range(width):
                value = bias[o]
                for i in range(inputs):
                    for dy in (-1, 0, 1):
                        for dx in (-1, 0, 1):
                            if 0 <= y + dy < height and 0 <= x + dx < width:
                                value += weight[o, i, dy + 1, dx + 1] * maps[i, y + dy, x + dx]
                out[o, y, x] = value
    return out


def mgd(student, teacher, keep, first, second):
    """`keep` [image][row][column] of 0 and 1; `first` and `second` are (weight, bias) of the two convolutions."""
    count, total = student.shape[0], 0.0
    for n in range(count):
        hidden = np.maximum(conv3x3(student[n] * keep[n], *first), 0)
        total += ((teacher[n] - conv3x3(hidden, *second)) ** 2).sum()
    return total / count


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def token_masks(tokens, teacher):
    """[image][mask][position]: sigmoid of the inner product of a token and a position's teacher vector."""
    count, channels = teacher.shape[:2]
    flat = teacher.reshape(count, channels, -1)
    return np.array(
        [
            [
                [sigmoid(sum(e[c] * flat[n, c, p] for c in range(channels))) for p in range(flat.shape[2])]
                for e in tokens
            ]
            for n in range(count)
        ]
    )


def maskd(student, teacher, masks, eps):
    """Mean over images, masks, channels of masked squared sums over mask sums."""
    count, channels = student.shape[:2]
    s, t = student.reshape(count, channels, -1), teacher.reshape(count, channels, -1)
    total = 0.0
    for n in range(count):
        for mask in masks[n]:
            for c in range(channels):
                above = sum((m * t[n, c, p] - m * s[n, c, p]) ** 2 for p, m in enumerate(mask))
                total += above / (sum(mask) + eps / channels)
    return total / (count * len(masks[0]) * channels)


def token_diversity(tokens, teacher, eps):
    """Mean over images and ordered pairs of Dice."""
    values = []
    for masks in token_masks(tokens, teacher):
        for i, a in enumerate(masks):
            for j, b in enumerate(masks):
                if i != j:
                    values.append(2 * (a * b).sum() / ((a * a).sum() + (b * b).sum() + eps))
    return sum(values) / len(values)
