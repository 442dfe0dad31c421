"""Optimizers and learning-rate schedules. The rate is a pure function of the iteration: nothing to restore."""

from __future__ import annotations

import math

import torch
from torch import nn

from acamkd_core.engine.parts import trainable
from acamkd_core.spec.training import OptimizerSpec, ScheduleSpec


def build_optimizer(spec: OptimizerSpec, student: nn.Module, methods: nn.Module) -> torch.optim.Optimizer:
    """Student and method parameters in two groups; each group keeps its factor on the rate in `lr_factor`."""
    groups = [{"params": trainable(student), "lr_factor": 1.0}]
    if extra := trainable(methods):
        groups.append({"params": extra, "lr_factor": spec.method_lr_factor})
    if spec.name == "adamw":
        return torch.optim.AdamW(groups, lr=spec.lr, betas=(spec.momentum, 0.999), weight_decay=spec.weight_decay)
    return torch.optim.SGD(groups, lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay)


def rate(schedule: ScheduleSpec, base: float, iteration: int, total: int, milestones: list[int]) -> float:
    """Learning rate of step `iteration` (0-based) out of `total`; `milestones` in iterations."""
    if iteration < schedule.warmup_iterations:
        # From a tenth, linearly: large first steps break fresh batch norm statistics.
        return base * (0.1 + 0.9 * iteration / schedule.warmup_iterations)
    done = min(iteration / total, 1.0)
    if schedule.policy == "poly":
        return float(base * (1.0 - done) ** schedule.power)
    if schedule.policy == "cosine":
        return base * 0.5 * (1.0 + math.cos(math.pi * done))
    if schedule.policy == "multistep":
        return base * schedule.gamma ** sum(iteration >= m for m in milestones)
    return base


def set_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Applies the rate to all groups, times each group's factor."""
    for group in optimizer.param_groups:
        group["lr"] = value * group["lr_factor"]
