"""DiffKD: Huang, Zhang, Zheng, You, Wang, Qian, Xu, "Knowledge Diffusion for Distillation", NeurIPS 2023,
arXiv 2305.15712.

The student's map is taken for a noisy copy of the teacher's, and denoised by a small diffusion model that learns from the
teacher's maps. With alpha_t the product of 1 - beta up to t, beta linear from 1e-4 to 0.02 over 1,000 times:

    Z = E(T), no gradient                       the teacher behind a linear encoder E (1x1 convolution, batch norm)
    L_ae = mean (T - D(E(T)))^2                 D: a 1x1 convolution
    L_diff = mean (eps - eps_theta(sqrt(alpha_t) Z + sqrt(1 - alpha_t) eps, t))^2        t uniform, eps ~ N(0, 1)
    gamma = softmax(W mean_p B(f(S)))_1         the noise adapter: how much of the student is kept, one number an image
    X_0 = DDIM from gamma f(S) + (1 - gamma) eps, at times 400, 300, 200, 100, 0          f: 1x1 convolution
    L_kd = mean (Z - P(X_0))^2                  P: a 1x1 convolution
    L = weight L_kd + diffusion_weight L_diff + autoencoder_weight L_ae

A step of DDIM (Song et al., ICLR 2021, eta 0) from t to t': x_0 = (x - sqrt(1 - alpha_t) e) / sqrt(alpha_t),
x' = sqrt(alpha_t') x_0 + sqrt(1 - alpha_t') e, e = eps_theta(x, t); behind the last, alpha is 1. eps_theta is two
bottlenecks (1x1, 3x3, 1x1 with batch norm, a quarter of the channels inside, plus their input), a 1x1 convolution and batch
norm; a learnt vector for each t is added to its input. B is one bottleneck with an eighth of the channels. L_diff and
L_ae do not reach the student; L_kd trains everything but E and D, as in the released code.

Five steps of denoising (the paper's best). The released code leaves the weights of the three losses to its caller: 1 here.

Choices the paper leaves open: the autoencoder halves the channels of features (the code's default) and is left out on class
scores; the student is resized to the teacher's map; levels are added, each with a model of its own; noise and times come
from the step's own generator, on the CPU, so that a resumed run draws the same on every device.
Deviations: convolutions in front of a batch norm have no bias (it would be taken off again).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from acamkd_core.methods.align import constant, full_precision, match_size
from acamkd_core.methods.base import LevelPair, Method, StepContext
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.methods import DiffkdTerm

TIMES = 1000
BETA = (1e-4, 0.02)


def alphas() -> Tensor:
    """alpha_t for t = 0 to 999, float64."""
    return torch.cumprod(1.0 - torch.linspace(*BETA, TIMES, dtype=torch.float64), dim=0)


def denoising_times(steps: int) -> list[int]:
    """Times of the denoising, falling: the lower half of 2 `steps` times spread evenly over all."""
    return [step * (TIMES // (2 * steps)) for step in reversed(range(steps))]


def ddim_step(noisy: Tensor, noise: Tensor, alpha: float, alpha_next: float) -> Tensor:
    """From time t to the next lower one, without noise of its own."""
    clean = (noisy - math.sqrt(1.0 - alpha) * noise) / math.sqrt(alpha)
    return clean * math.sqrt(alpha_next) + noise * math.sqrt(1.0 - alpha_next)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1, each with batch norm, ReLU between; added to the input."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        inner = max(1, channels // reduction)
        self.block = nn.Sequential(
            nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(),
            nn.Conv2d(inner, channels, 1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        out: Tensor = maps_NCHW + self.block(maps_NCHW)
        return out


class NoisePredictor(nn.Module):
    """eps_theta: the noise in a map at time t (N int64)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.time = nn.Embedding(TIMES, channels)
        self.predict = nn.Sequential(
            Bottleneck(channels, 4), Bottleneck(channels, 4),
            nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, noisy_NCHW: Tensor, time_N: Tensor) -> Tensor:
        noise: Tensor = self.predict(noisy_NCHW + self.time(time_N)[:, :, None, None])
        return noise


class DiffkdLevel(nn.Module):
    """One level: autoencoder, diffusion model, noise adapter and the two projections."""

    alpha: Tensor

    def __init__(self, pair: LevelPair, latent: int | None, steps: int) -> None:
        super().__init__()
        self.pair, self.times = pair, denoising_times(steps)
        channels = latent or pair.teacher.channels
        self.encode = self.decode = None
        if latent is not None:
            encoder = nn.Conv2d(pair.teacher.channels, latent, 1, bias=False)
            self.encode = nn.Sequential(encoder, nn.BatchNorm2d(latent))
            self.decode = nn.Conv2d(latent, pair.teacher.channels, 1)
        self.enter = nn.Conv2d(pair.student.channels, channels, 1)
        self.noise = NoisePredictor(channels)
        self.adapter = Bottleneck(channels, 8)
        self.keep = nn.Linear(channels, 2)
        self.leave = nn.Conv2d(channels, channels, 1)
        self.register_buffer("alpha", alphas(), persistent=False)
        self._alpha: list[float] = alphas().tolist()  # as numbers, so that no denoising step waits for the device

    def denoise(self, student_NCHW: Tensor, noise_NCHW: Tensor) -> Tensor:
        """X_0, from the student's map behind f."""
        share_N = self.keep(self.adapter(student_NCHW).mean(dim=(2, 3))).softmax(dim=1)[:, 0]
        share = share_N[:, None, None, None]
        noisy: Tensor = share * student_NCHW + (1.0 - share) * noise_NCHW
        for time, after in zip(self.times, [*self.times[1:], None], strict=True):
            at = torch.full((len(noisy),), time, device=noisy.device)
            alpha_next = 1.0 if after is None else self._alpha[after]
            found: Tensor = self.noise(noisy, at)
            noisy = ddim_step(noisy, found, self._alpha[time], alpha_next)
        return noisy

    def forward(self, ctx: StepContext, generator: torch.Generator) -> dict[str, Tensor]:
        """{"kd", "diffusion", "autoencoder" where there is one}: scalars, unweighted."""
        student = full_precision(ctx.student.features[self.pair.name])
        teacher = full_precision(constant(ctx.teacher.features[self.pair.teacher_name]))
        student = match_size(student, (teacher.shape[-2], teacher.shape[-1]), level=self.pair.name)
        if teacher.shape[0] * teacher.shape[2:].numel() == 1:
            raise CoreError(
                "method.one_value",
                f"level {self.pair.name!r} has one position and the batch one image: diffkd's batch norms need two values",
                hint="leave the level out of `at`, or take larger images or batches",
                field="at",
                value=self.pair.name,
            )
        losses: dict[str, Tensor] = {}
        with torch.autocast(student.device.type, enabled=False):
            if self.encode is not None and self.decode is not None:
                hidden = self.encode(teacher)
                losses["autoencoder"] = (teacher - self.decode(hidden)).square().mean()
                teacher = hidden.detach()

            def draw() -> Tensor:
                return torch.randn(teacher.shape, generator=generator).to(teacher)

            clean = self.leave(self.denoise(self.enter(student), draw()))
            losses["kd"] = (teacher - clean).square().mean()
            time_N = torch.randint(TIMES, (len(teacher),), generator=generator).to(teacher.device)
            alpha, noise = self.alpha.to(teacher)[time_N][:, None, None, None], draw()
            found = self.noise(alpha.sqrt() * teacher + (1.0 - alpha).sqrt() * noise, time_N)
            losses["diffusion"] = (noise - found).square().mean()
        return losses


class Diffkd(Method):
    """`diffkd`: terms `diffkd`, and what its own networks learn from, `diffkd/diffusion` and `diffkd/autoencoder`."""

    name = "diffkd"
    options: DiffkdTerm

    def __init__(self, options: DiffkdTerm, pairs: list[LevelPair], *, num_classes: int) -> None:
        super().__init__(options, pairs, num_classes=num_classes)
        self.levels = nn.ModuleList(
            DiffkdLevel(pair, options.latent_at(pair.name, pair.teacher.channels), options.steps) for pair in pairs
        )

    def forward(self, ctx: StepContext) -> dict[str, Tensor]:
        generator = ctx.random()
        levels: list[dict[str, Tensor]] = [level(ctx, generator) for level in self.levels]
        factors = {
            "kd": self.options.weight,
            "diffusion": self.options.diffusion_weight,
            "autoencoder": self.options.autoencoder_weight,
        }
        terms = {}
        for name, factor in factors.items():
            if values := [losses[name] for losses in levels if name in losses]:
                terms["diffkd" if name == "kd" else f"diffkd/{name}"] = factor * torch.stack(values).sum()
        return terms
