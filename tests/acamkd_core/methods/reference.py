"""ACAM-KD written down with loops over Python floats: slow, obvious, and without one line of the code under test.

Maps are nested lists [image][channel][position].
"""

import math


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def linear(weight, bias, column):
    """W x + b for one column x."""
    return [
        sum(weight[o][i] * column[i] for i in range(len(column))) + (bias[o] if bias is not None else 0.0)
        for o in range(len(weight))
    ]


def project(weight, bias, image):
    """A 1x1 convolution of [channel][position]."""
    positions = len(image[0])
    columns = [linear(weight, bias, [row[p] for row in image]) for p in range(positions)]
    return [[columns[p][o] for p in range(positions)] for o in range(len(weight))]


def fused(query, key, value):
    """F_fused[c][q] = sum_k A[q][k] V[c][k], A = softmax over keys of <Q_q, K_k> / sqrt(C_q)."""
    width, positions = len(query), len(query[0])
    result = [[0.0] * positions for _ in value]
    for q in range(positions):
        scores = [sum(query[d][q] * key[d][k] for d in range(width)) / math.sqrt(width) for k in range(positions)]
        top = max(scores)
        weights = [math.exp(s - top) for s in scores]
        total = sum(weights)
        for c in range(len(value)):
            result[c][q] = sum(weights[k] / total * value[c][k] for k in range(positions))
    return result


def centred(row, centre):
    return [x - sum(row) / len(row) for x in row] if centre else row


def masks_of(params, teacher, student, query="teacher", centre=False):
    """(spatial [m][p], channel [m][c]) of one image; a set without units is None."""
    asks, answers = (teacher, student) if query == "teacher" else (student, teacher)
    f = fused(
        project(params["wq"], params["bq"], asks),
        project(params["wk"], None, answers),
        project(params["wv"], params["bv"], answers),
    )
    channels, positions = len(f), len(f[0])
    spatial = channel = None
    if params["ms"] is not None:
        spatial = []
        for unit in params["ms"]:
            row = [sum(unit[c] * f[c][p] for c in range(channels)) for p in range(positions)]
            spatial.append([sigmoid(x) for x in centred(row, centre)])
    if params["mc"] is not None:
        v = centred([sum(f[c]) / positions for c in range(channels)], centre)
        channel = [[sigmoid(unit[0] * x) for x in v] for unit in params["mc"]]
    return spatial, channel


def spatial_loss(masks, teacher, student, norm, eps):
    channels, total = len(teacher), 0.0
    for mask in masks:
        above = below = 0.0
        for p, m in enumerate(mask):
            below += m if norm == "sum" else m * m
            for c in range(channels):
                above += (m * (teacher[c][p] - student[c][p])) ** 2
        total += above / (channels * below + eps)
    return total / len(masks)


def channel_loss(masks, teacher, student, norm, eps):
    positions, total = len(teacher[0]), 0.0
    for mask in masks:
        above = below = 0.0
        for c, m in enumerate(mask):
            below += m if norm == "sum" else m * m
            for p in range(positions):
                above += (m * (teacher[c][p] - student[c][p])) ** 2
        total += above / (positions * below + eps)
    return total / len(masks)


def diversity(masks, form, eps):
    count = len(masks)
    if count == 1:
        return 0.0

    def dot(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True))

    if form == "pairs":
        values = [
            2 * dot(masks[i], masks[j]) / (dot(masks[i], masks[i]) + dot(masks[j], masks[j]) + eps)
            for i in range(count)
            for j in range(count)
            if i < j
        ]
        return sum(values) / len(values)
    above = sum(2 * dot(masks[i], masks[j]) for i in range(count) for j in range(count) if i != j)
    return above / (2 * sum(dot(mask, mask) for mask in masks) + eps)


def losses(params, teacher, student, options, fusion_student=None, kd_masks=None):
    """{"spatial", "channel", "diversity"} of one level, unweighted, batch mean.

    `fusion_student` replaces the student inside the attention, `kd_masks` (one pair of sets an image) the masks of the
    KD terms: that is how a detached input looks to a difference quotient.
    """
    terms = {"spatial": 0.0, "channel": 0.0, "diversity": 0.0}
    count = len(teacher)
    for n in range(count):
        inner = student[n] if fusion_student is None else fusion_student[n]
        learnt = masks_of(params, teacher[n], inner, options["query"], options["centre"])
        spatial, channel = learnt if kd_masks is None else kd_masks[n]
        norm, eps = options["mask_norm"], options["eps"]
        if spatial is not None:
            terms["spatial"] += spatial_loss(spatial, teacher[n], student[n], norm, eps) / count
        if channel is not None:
            terms["channel"] += channel_loss(channel, teacher[n], student[n], norm, eps) / count
        terms["diversity"] += sum(diversity(s, options["diversity"], eps) for s in learnt if s is not None) / count
    return terms
