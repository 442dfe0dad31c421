"""FGD in float64 loops, without one line of the code under test. Maps are NumPy arrays [image][channel][row][column]."""

import math

import numpy as np


def softmax(row):
    top = max(row)
    powers = [math.exp(x - top) for x in row]
    return [x / sum(powers) for x in powers]


def attention(maps, temperature):
    channels, height, width = maps.shape
    cells = [(y, x) for y in range(height) for x in range(width)]
    spatial = softmax([sum(abs(maps[c, y, x]) for c in range(channels)) / channels / temperature for y, x in cells])
    channel = softmax([sum(abs(maps[c, y, x]) for y, x in cells) / len(cells) / temperature for c in range(channels)])
    return (
        {cell: len(cells) * value for cell, value in zip(cells, spatial, strict=True)},
        [channels * value for value in channel],
    )


def scale_mask(boxes, height, width, cell):
    """{(row, column): S} of the cells in boxes: a cell is in a box when their areas touch; the smallest box counts."""
    weights = {}
    for x1, y1, x2, y2 in boxes:
        covered = [
            (y, x)
            for y in range(height)
            for x in range(width)
            if y * cell < y2 and (y + 1) * cell > y1 and x * cell < x2 and (x + 1) * cell > x1
        ]
        for place in covered:
            weights[place] = max(weights.get(place, 0.0), 1 / len(covered))
    return weights


def focal(student, teacher, boxes, cell, temperature):
    """(foreground, background, attention), mean over images."""
    count, channels, height, width = student.shape
    sums = [0.0, 0.0, 0.0]
    for n in range(count):
        inside = scale_mask(boxes[n], height, width, cell)
        free = height * width - len(inside)
        (spatial_t, channel_t), (spatial_s, channel_s) = (
            attention(teacher[n], temperature),
            attention(student[n], temperature),
        )
        for y in range(height):
            for x in range(width):
                for c in range(channels):
                    square = (teacher[n, c, y, x] - student[n, c, y, x]) ** 2 * spatial_t[y, x] * channel_t[c]
                    if (y, x) in inside:
                        sums[0] += inside[y, x] * square
                    else:
                        sums[1] += square / free
        sums[2] += sum(abs(spatial_t[k] - spatial_s[k]) for k in spatial_t)
        sums[2] += sum(abs(a - b) for a, b in zip(channel_t, channel_s, strict=True))
    return [value / count for value in sums]


def context(maps, p):
    """R(F) of one image; `p` holds key (C, 1), first, norm, last as (weight, bias)."""
    channels, height, width = maps.shape
    cells = [(y, x) for y in range(height) for x in range(width)]
    key, bias = p["key"]
    share = softmax([sum(key[c] * maps[c, y, x] for c in range(channels)) + bias for y, x in cells])
    pooled = [sum(s * maps[c, y, x] for s, (y, x) in zip(share, cells, strict=True)) for c in range(channels)]
    hidden = [sum(w * v for w, v in zip(row, pooled, strict=True)) + b for row, b in zip(*p["first"], strict=True)]
    mean = sum(hidden) / len(hidden)
    deviation = math.sqrt(sum((h - mean) ** 2 for h in hidden) / len(hidden) + 1e-5)
    normed = [(h - mean) / deviation * g + b for h, g, b in zip(hidden, *p["norm"], strict=True)]
    active = [max(h, 0.0) for h in normed]
    moved = [sum(w * v for w, v in zip(row, active, strict=True)) + b for row, b in zip(*p["last"], strict=True)]
    return maps + np.array(moved)[:, None, None]


def global_loss(student, teacher, of_student, of_teacher):
    count = student.shape[0]
    pairs = [(context(teacher[n], of_teacher), context(student[n], of_student)) for n in range(count)]
    return sum(((a - b) ** 2).sum() for a, b in pairs) / count
