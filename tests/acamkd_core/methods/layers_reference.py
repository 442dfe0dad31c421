"""Layers in float64 loops, without one line of the code under test. Maps are NumPy arrays [image][channel][row][column]."""

import math

import numpy as np


def conv1x1(maps, weight, bias=None):
    """`weight` [output][input], `bias` [output] or None."""
    count, _, height, width = maps.shape
    out = np.zeros((count, len(weight), height, width))
    for n in range(count):
        for y in range(height):
            for x in range(width):
                for o, row in enumerate(weight):
                    out[n, o, y, x] = sum(w * v for w, v in zip(row, maps[n, :, y, x], strict=True))
                    out[n, o, y, x] += 0.0 if bias is None else bias[o]
    return out


def convolve(maps, layer):
    """A torch convolution of 1x1 or 3x3 with its numbers."""
    weight = layer.weight.detach().numpy()
    bias = None if layer.bias is None else layer.bias.detach().numpy()
    if weight.shape[2:] == (1, 1):
        return conv1x1(maps, weight[:, :, 0, 0], bias)
    count, _, height, width = maps.shape
    wide = np.pad(maps, ((0, 0), (0, 0), (1, 1), (1, 1)))
    out = np.zeros((count, len(weight), height, width))
    for n in range(count):
        for y in range(height):
            for x in range(width):
                window = wide[n, :, y : y + 3, x : x + 3]
                for o, own in enumerate(weight):
                    out[n, o, y, x] = (own * window).sum() + (0.0 if bias is None else bias[o])
    return out


def batch_norm(maps, layer):
    """Training mode: the batch's own statistics."""
    out = np.zeros_like(maps)
    for c in range(maps.shape[1]):
        values = [float(v) for v in maps[:, c].ravel()]
        mean = sum(values) / len(values)
        variance = sum((v - mean) ** 2 for v in values) / len(values)
        scale, shift = layer.weight[c].item(), layer.bias[c].item()
        out[:, c] = (maps[:, c] - mean) / math.sqrt(variance + layer.eps) * scale + shift
    return out


def instance_norm(maps, eps=1e-5):
    out = np.zeros_like(maps)
    for n in range(maps.shape[0]):
        for c in range(maps.shape[1]):
            values = [float(v) for v in maps[n, c].ravel()]
            mean = sum(values) / len(values)
            variance = sum((v - mean) ** 2 for v in values) / len(values)
            out[n, c] = (maps[n, c] - mean) / math.sqrt(variance + eps)
    return out
