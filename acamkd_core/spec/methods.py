"""Options of every distillation method: one class a method, `method` selects it. A job lists any number of them."""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from acamkd_core.spec.archs import NECK_LEVELS, TWO_STAGE, Arch
from acamkd_core.spec.base import SpecModel

ANCHOR_FREE = frozenset({"fcos", "reppoints"})
"""Families with one candidate a position and no anchors: some methods have numbers of their own for them."""


class TermSpec(SpecModel):
    """What all methods share: where they look and how much they count."""

    at: tuple[str, ...] = Field(
        default=("logits",),
        min_length=1,
        description="Student levels compared, by name; a bare string is one level, and `acamkd models` lists them. Automatic: "
        "class scores (`logits`) of segmenters and classifiers, the pyramid of detectors; the last map of classifiers "
        "(`c5`) for methods that need positions. Levels that the teacher has no partner for are then left out.",
    )
    teacher_at: tuple[str, ...] | None = Field(
        default=None,
        description="Teacher levels, in the order of `at`; automatic: the same name, else the same stride, else the nearest "
        "stride within a factor of 4, to whose size the student's map is brought (crosskd and logit: the same name).",
    )
    weight: float = Field(default=1.0, ge=0, description="Factor on all terms of this entry.")
    placebo: Literal["none", "other_image", "random_head"] = Field(
        default="none",
        description="Controls that take the teacher's knowledge away; the gain must vanish. `other_image`: its maps of another "
        "image of the batch; `random_head`: of its backbone with an untrained head. A stage before distillation sees the true "
        "teacher.",
    )

    @field_validator("at", "teacher_at", mode="before")
    @classmethod
    def _one_level(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    def papers(self, student: Arch, teacher: Arch | None) -> dict[str, float]:
        """The authors' numbers by field for this student at these levels, where they are not what the fields start from.

        `teacher`: None where it is not known, or a graph of another runtime.
        """
        return {}

    def decided(self) -> dict[str, Any]:
        """Values by field of automatic fields that were left out and have one by now."""
        fields = type(self).model_fields.items()
        left_out = [name for name, field in fields if "automatic" in str(field.description).lower()]
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name in left_out
            if name not in self.model_fields_set and (value := getattr(self, name)) is not None
        }

    def automatic(self, *, classes: int, iterations: int) -> dict[str, int]:
        """Values of fields that were left out and follow from the data: number of classes, length of the run."""
        return {}


class LogitTerm(TermSpec):
    """Hinton et al. 2015: KL of softened class distributions, mean over images and positions.

    Detectors (retinanet, fcos, reppoints): KL of each candidate's yes-or-no distribution per class, over the positive candidates.
    """

    method: Literal["logit"] = Field(description="KL divergence of class distributions.")
    temperature: float = Field(
        default=1.0, gt=0, description="Softening of both distributions; gradient scaled by its square."
    )


class FeatureMSETerm(TermSpec):
    """FitNets (Romero et al. 2015): mean squared difference after a 1x1 alignment where channels differ."""

    method: Literal["feature_mse"] = Field(description="Mean squared difference.")


class FeatureMSEMatchedTerm(TermSpec):
    """Control for masked methods: plain MSE, scaled step by step by the KD/MSE ratio that another run recorded."""

    method: Literal["feature_mse_matched"] = Field(description="MSE scaled by a recorded KD/MSE ratio.")
    ratio: tuple[tuple[int, float], ...] | None = Field(
        default=None,
        description="(iteration, KD/MSE ratio) pairs, linear in between; from the job named in `ratio_from`.",
    )
    ratio_from: str | None = Field(
        default=None,
        description="`job:<name>` whose recorded `kd/mse_ratio` series is used, or a JSON file with the pairs.",
    )

    @field_validator("ratio")
    @classmethod
    def _a_series(cls, value: tuple[tuple[int, float], ...] | None) -> tuple[tuple[int, float], ...] | None:
        if value is None:
            return value
        if not value:
            raise ValueError("ratio is empty: give at least one (iteration, ratio) pair")
        iterations = [iteration for iteration, _ in value]
        if any(later <= earlier for earlier, later in itertools.pairwise(iterations)):
            raise ValueError("iterations must rise from pair to pair")
        if any(not math.isfinite(ratio) or ratio < 0 for _, ratio in value):
            raise ValueError("ratios must be finite and not negative")
        return value


class AcamTerm(TermSpec):
    """ACAM-KD (Lan and Tian, ICCV 2025, arXiv 2503.06307). Choices that the paper leaves open are options."""

    method: Literal["acam"] = Field(description="Adaptive and cooperative attention masking.")
    weight: float = Field(
        default=1.0, ge=0, description="Alpha, the factor on the masked losses L^c + L^s; not on the diversity term."
    )
    masks: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Number of selection units M a set; automatic: the number of classes on logits, else 6.",
    )
    mask_norm: Literal["sum", "sum_sq"] = Field(
        default="sum_sq",
        description="Denominator: sum of M (the paper's letter, collapses) or of M squared (scale-free).",
    )
    mask_gradient: Literal["all", "units", "diversity_only"] = Field(
        default="diversity_only",
        description="Who learns from what: `all` (the letter), `units` (fusion sees a detached student), `diversity_only`.",
    )
    query: Literal["teacher", "student"] = Field(default="teacher", description="Who asks in the cross-attention.")
    spatial: bool = Field(default=True, description="Use spatial masks.")
    channel: bool = Field(default=True, description="Use channel masks.")
    diversity: Literal["pairs", "printed"] = Field(
        default="pairs",
        description="Dice over mask pairs: mean over pairs (0..1), or the printed quotient of sums (0..M-1), which also "
        "falls when all masks but one are emptied.",
    )
    diversity_weight: float = Field(
        default=1.0, ge=0, description="Lambda, the factor on the diversity term; `weight` does not multiply it."
    )
    levels: Literal["sum", "mean"] = Field(default="sum", description="How levels add up when several are given.")
    unit_init: float = Field(
        default=0.01, ge=0, description="Standard deviation of the units' normal initialisation (MasKD's value)."
    )
    projection_bias: bool = Field(
        default=True, description="Bias in W_q and W_v (W_k's has no gradient and does not exist)."
    )
    centre: bool = Field(
        default=True,
        description="Take the mean over positions (channels) off each mask's scores before the sigmoid, so that no mask "
        "can be 0 or 1 everywhere; off is the paper's letter, which collapses.",
    )
    block: int = Field(
        default=1024,
        ge=16,
        description="Queries per block, counted over the batch: memory is block x positions; results do not depend on it.",
    )
    eps: float = Field(default=1e-6, ge=0, description="Added once to each whole denominator, in fp32.")
    ablation: Literal["none", "frozen", "shuffle_positions", "shuffle_images", "noise", "teacher_only"] = Field(
        default="none",
        description="Controls that take the learnt masks away. `frozen`: units and projections stay as initialised; "
        "`shuffle_positions`, `shuffle_images`: learnt masks in the wrong place; `noise`: smooth random masks; "
        "`teacher_only`: the teacher on both sides of the attention.",
    )

    def masks_at(self, level: str, *, classes: int) -> int:
        """M at a level: a mask for each class on class scores, else the paper's number for detection."""
        return self.masks or (classes if level == "logits" else 6)

    def automatic(self, *, classes: int, iterations: int) -> dict[str, int]:
        # Where both kinds of level are named, each has a number of its own: no single one would say it.
        if self.masks is not None or len({level == "logits" for level in self.at}) > 1:
            return {}
        return {"masks": self.masks_at(self.at[0], classes=classes)}


class CwdTerm(TermSpec):
    """CWD (Shu et al., ICCV 2021, arXiv 2011.13256): KL of each channel's softmax over positions."""

    method: Literal["cwd"] = Field(description="KL divergence of channel-wise maps.")
    weight: float = Field(
        default=3.0,
        ge=0,
        description="Factor on the loss; automatic, as in the paper: 3 on class scores (also beside features), 50 on features.",
    )
    temperature: float = Field(
        default=4.0, gt=0, description="Softening of both maps; gradient scaled by its square. The paper's 4."
    )

    def papers(self, student: Arch, teacher: Arch | None) -> dict[str, float]:
        return {} if "logits" in self.at else {"weight": 50.0}


class PkdTerm(TermSpec):
    """PKD (Cao et al., NeurIPS 2022, arXiv 2207.02039): 1 minus Pearson's correlation of each channel."""

    method: Literal["pkd"] = Field(description="MSE of channels brought to zero mean and unit deviation.")
    weight: float = Field(
        default=6.0,
        ge=0,
        description="Factor on the loss; automatic, as in the paper: 6, and 10 for detectors of different families.",
    )
    eps: float = Field(
        default=1e-6, ge=0, description="Added to each channel's variance: a constant channel has a bounded gradient."
    )

    def papers(self, student: Arch, teacher: Arch | None) -> dict[str, float]:
        other = teacher is not None and teacher.family != student.family
        return {"weight": 10.0} if other and student.family in NECK_LEVELS else {}


class MgdTerm(TermSpec):
    """MGD (Yang et al., ECCV 2022, arXiv 2205.01529): regenerate the teacher's map from a randomly masked student."""

    method: Literal["mgd"] = Field(description="Squared error of a map regenerated from masked positions.")
    weight: float = Field(
        default=2e-5,
        ge=0,
        description="Factor on the squared error, which is summed over channels and positions: small maps need more. "
        "Automatic, as in the paper: 2e-5 (segmentation, one-stage detectors) and 5e-7 (two-stage).",
    )
    mask_ratio: float = Field(
        default=0.75,
        ge=0,
        lt=1,
        description="Probability that a position is hidden; automatic, as in the paper: 0.75 for segmentation, 0.65 for "
        "one-stage and 0.45 for two-stage detectors.",
    )

    def papers(self, student: Arch, teacher: Arch | None) -> dict[str, float]:
        if student.family in TWO_STAGE:
            return {"weight": 5e-7, "mask_ratio": 0.45}
        return {"mask_ratio": 0.65} if student.family in NECK_LEVELS else {}


class MaskdTerm(TermSpec):
    """MasKD (Huang et al., ICLR 2023, arXiv 2205.14589): masks of receptive tokens, trained on the teacher beforehand."""

    method: Literal["maskd"] = Field(description="MSE under masks that were learnt on the frozen teacher.")
    weight: float = Field(
        default=0.5,
        ge=0,
        description="Factor on the masked loss; automatic, as the authors': 0.5 on class scores, 7 on the pyramids of detectors, "
        "10 on those without anchors (FCOS, RepPoints).",
    )
    tokens: int | None = Field(
        default=None, ge=1, le=256, description="Number of tokens M a level; automatic: 8 on logits, else 6."
    )
    token_iterations: int | None = Field(
        default=None,
        ge=0,
        description="Steps of the stage before distillation that trains the tokens; automatic: a quarter of the run "
        "(the authors' 10,000 beside 40,000). 0 leaves the tokens random.",
    )
    token_lr: float = Field(default=0.1, gt=0, description="Peak learning rate of that stage (poly decay).")
    diversity_weight: float = Field(
        default=1.0, ge=0, description="Factor on the mean pairwise Dice of the masks while tokens are trained."
    )
    eps: float = Field(default=1e-5, ge=0, description="Added to each mask's sum, and to the Dice's denominator.")

    def papers(self, student: Arch, teacher: Arch | None) -> dict[str, float]:
        if student.family not in NECK_LEVELS:
            return {}
        return {"weight": 10.0 if student.family in ANCHOR_FREE else 7.0}

    def tokens_at(self, level: str) -> int:
        """M at a level."""
        return self.tokens or (8 if level == "logits" else 6)

    def automatic(self, *, classes: int, iterations: int) -> dict[str, int]:
        found: dict[str, int] = {}
        if self.token_iterations is None:
            found["token_iterations"] = max(1, iterations // 4)
        # Where levels have numbers of their own, no single one would say it.
        if self.tokens is None and len(numbers := {self.tokens_at(level) for level in self.at}) == 1:
            found["tokens"] = numbers.pop()
        return found


class FgdTerm(TermSpec):
    """FGD (Yang et al., CVPR 2022, arXiv 2111.11837): box-weighted attention, plus global context. Needs boxes."""

    method: Literal["fgd"] = Field(description="Focal and global distillation for detectors.")
    at: tuple[str, ...] = Field(
        default=("p3", "p4", "p5", "p6", "p7"),
        min_length=1,
        description="Student levels compared, by name; automatic: the detector's pyramid, less what the teacher has no partner "
        "for.",
    )
    temperature: float = Field(
        default=0.5,
        gt=0,
        description="Softening of the attention maps; automatic, as the authors': 0.5, and 0.8 for FCOS.",
    )
    foreground_weight: float = Field(
        default=1e-3,
        ge=0,
        description="Alpha, inside boxes; automatic, as the authors': 1e-3 for one-stage detectors with anchors, 1.6e-3 for those "
        "without (FCOS, RepPoints), 5e-5 for two-stage.",
    )
    background_weight: float = Field(
        default=5e-4, ge=0, description="Beta, outside boxes; automatic, in the same order: 5e-4, 8e-4, 2.5e-5."
    )
    attention_weight: float = Field(
        default=1e-3,
        ge=0,
        description="Gamma, L1 of the attention maps; automatic, in the same order: 1e-3, 8e-4, 5e-5.",
    )
    global_weight: float = Field(
        default=5e-6, ge=0, description="Lambda, global context blocks; automatic, in the same order: 5e-6, 8e-6, 5e-7."
    )

    def papers(self, student: Arch, teacher: Arch | None) -> dict[str, float]:
        names = ("foreground_weight", "background_weight", "attention_weight", "global_weight")
        if student.family in TWO_STAGE:
            return dict(zip(names, (5e-5, 2.5e-5, 5e-5, 5e-7), strict=True))
        if student.family in ANCHOR_FREE:
            own = {"temperature": 0.8} if student.family == "fcos" else {}
            return own | dict(zip(names, (1.6e-3, 8e-4, 8e-4, 8e-6), strict=True))
        return {}


class CankdTerm(TermSpec):
    """CanKD (Sun and Ohyama, WACV 2026, arXiv 2511.21503): the student asks the teacher's positions, then normalised MSE."""

    method: Literal["cankd"] = Field(
        description="MSE of instance-normalised maps behind a cross-network non-local block."
    )
    at: tuple[str, ...] = Field(
        default=("c5",),
        min_length=1,
        description="Student levels compared, by name; automatic: as in the paper, the backbone's last, and the pyramid of "
        "detectors, less what the teacher has no partner for.",
    )
    weight: float = Field(
        default=5.0, ge=0, description="Factor on half the MSE; the authors take 5, and 10 for one pair."
    )


class CrosskdTerm(TermSpec):
    """CrossKD (Wang et al., CVPR 2024, arXiv 2306.11369): the student's half-done head goes through the rest of the teacher's."""

    method: Literal["crosskd"] = Field(
        description="Predictions of the teacher's head from the student's head features."
    )
    at: tuple[str, ...] = Field(
        default=("p3", "p4", "p5", "p6", "p7"),
        min_length=1,
        description="Pyramid levels whose predictions are compared; automatic: all of the student's.",
    )
    stage: int | None = Field(
        default=None,
        ge=0,
        le=8,
        description="Convolutions of each tower that the student does itself before the teacher's head takes over; "
        "automatic: 3, for FCOS 2 as the authors take, or all of a shallower head.",
    )
    class_weight: float = Field(
        default=1.0,
        ge=0,
        description="Factor on the class scores' quality focal loss; automatic, as the authors': 1, and 0.4 for FCOS.",
    )
    box_weight: float = Field(
        default=1.0,
        ge=0,
        description="Factor on the boxes' GIoU loss; automatic, as the authors': 1, and 0.75 for FCOS.",
    )
    beta: float = Field(default=1.0, ge=1, description="Exponent of the quality focal loss's weight.")

    def papers(self, student: Arch, teacher: Arch | None) -> dict[str, float]:
        if student.family != "fcos":
            return {}
        found = {"class_weight": 0.4, "box_weight": 0.75}
        if teacher is not None and teacher.family == "fcos":
            found["stage"] = min(2, student.head_depth, teacher.head_depth)
        return found


class FreekdTerm(TermSpec):
    """FreeKD (Zhang et al., CVPR 2024, arXiv 2311.12079): wavelet bands under masks of prompts, trained on the teacher."""

    method: Literal["freekd"] = Field(
        description="L1 of wavelet bands under masks that were learnt on the frozen teacher."
    )
    scales: int = Field(
        default=3,
        ge=1,
        le=6,
        description="Scales of the Haar transform: three bands each, and a coarse one. The paper's 3.",
    )
    tokens: int = Field(default=2, ge=1, le=64, description="Prompts T a band. The paper's 2.")
    token_iterations: int | None = Field(
        default=None,
        ge=0,
        description="Steps of the stage before distillation that trains the prompts; automatic: a quarter of the run. "
        "0 leaves them random.",
    )
    token_lr: float = Field(default=0.1, gt=0, description="Peak learning rate of that stage (poly decay).")
    diversity_weight: float = Field(
        default=1.0, ge=0, description="Lambda, on the masks' Jaccard coefficients while prompts are trained."
    )

    def automatic(self, *, classes: int, iterations: int) -> dict[str, int]:
        return {"token_iterations": max(1, iterations // 4)} if self.token_iterations is None else {}


class DiffkdTerm(TermSpec):
    """DiffKD (Huang et al., NeurIPS 2023, arXiv 2305.15712): the student denoised by a diffusion model of the teacher."""

    method: Literal["diffkd"] = Field(
        description="MSE of the teacher and the student denoised by a small diffusion model."
    )
    weight: float = Field(
        default=1.0, ge=0, description="Factor on the MSE; not on what the method's networks learn from."
    )
    diffusion_weight: float = Field(default=1.0, ge=0, description="Factor on the diffusion model's own loss.")
    autoencoder_weight: float = Field(default=1.0, ge=0, description="Factor on the autoencoder's own loss.")
    latent: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Channels behind the teacher's autoencoder; automatic: half of the teacher's, and no autoencoder on "
        "logits.",
    )
    steps: int = Field(default=5, ge=1, le=100, description="Denoising steps. The paper's 5.")

    def latent_at(self, level: str, channels: int) -> int | None:
        """Latent channels at a level of so many; None where there is no autoencoder."""
        if self.latent is None and level == "logits":
            return None
        return self.latent or max(1, channels // 2)


MethodTerm = Annotated[
    AcamTerm
    | LogitTerm
    | FeatureMSETerm
    | FeatureMSEMatchedTerm
    | CwdTerm
    | PkdTerm
    | MgdTerm
    | MaskdTerm
    | FgdTerm
    | CankdTerm
    | CrosskdTerm
    | FreekdTerm
    | DiffkdTerm,
    Field(discriminator="method"),
]


def terms_from_shorthand(value: object) -> object:
    """`none`, a method name, one object, or a list of those, as the list form."""
    if value is None or value == "none":
        return []
    if isinstance(value, (str, dict)):
        value = [value]
    if isinstance(value, (list, tuple)):
        return [{"method": item} if isinstance(item, str) else item for item in value if item != "none"]
    return value
