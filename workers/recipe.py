"""How a network is trained: optimiser, learning-rate schedule, augmentation, regularisers. Plain data, no torch.

Every field is bounded and described, because the form, the API and the documentation are generated from it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from workers.recipes import completed


class RecipePart(BaseModel):
    """Frozen, strict, without unknown keys, NaN or infinities."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Sgd(RecipePart):
    """v = momentum · v + g; w = w − lr · v, or with ``nesterov`` w − lr · (g + momentum · v)."""

    name: Literal["sgd"] = "sgd"
    lr: float = Field(default=0.1, gt=0, le=100, description="Highest learning rate, reached after the warm-up.")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Share of the last step that is repeated.")
    weight_decay: float = Field(default=0.0005, ge=0, le=1, description="L2 penalty, added to the gradient.")
    nesterov: bool = Field(default=False, description="Nesterov's momentum; needs momentum above 0.")

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Sgd:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov is true with momentum 0; allowed: momentum above 0")
        return self


class AdamW(RecipePart):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    name: Literal["adamw"] = "adamw"
    lr: float = Field(default=0.001, gt=0, le=10, description="Highest learning rate, reached after the warm-up.")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="Decay of the mean of gradients.")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="Decay of the mean of squared gradients.")
    weight_decay: float = Field(default=0.01, ge=0, le=10, description="Share of a weight that is taken off, times lr.")


class RmsProp(RecipePart):
    """s = decay · s + (1 − decay) · g²; v = momentum · v + g / (√s + epsilon); w = w − lr · v (Hinton, lecture 6)."""

    name: Literal["rmsprop"] = "rmsprop"
    lr: float = Field(default=0.016, gt=0, le=10, description="Highest learning rate, reached after the warm-up.")
    decay: float = Field(default=0.9, ge=0, lt=1, description="Decay of the mean of squared gradients.")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Share of the last step that is repeated.")
    epsilon: float = Field(default=0.001, gt=0, le=10, description="Added to the root of the mean of squares.")
    weight_decay: float = Field(default=0.00001, ge=0, le=1, description="L2 penalty, added to the gradient.")


class Schedule(RecipePart):
    """What every schedule has: lr rises linearly from 0 during the warm-up."""

    warmup_epochs: float = Field(default=0.0, ge=0, le=1000, description="Epochs in which lr rises linearly from 0.")


class Constant(Schedule):
    """lr(t) = lr."""

    name: Literal["constant"] = "constant"


class Cosine(Schedule):
    """lr(t) = lr · (f + (1 − f) · (1 + cos πt) / 2) with t from 0 to 1 after the warm-up, f = final_fraction."""

    name: Literal["cosine"] = "cosine"
    final_fraction: float = Field(default=0.0, ge=0, le=1, description="lr at the end, as a fraction of the highest.")


class Linear(Schedule):
    """lr(t) = lr · (f + (1 − f) · (1 − t)) with t from 0 to 1 after the warm-up, f = final_fraction."""

    name: Literal["linear"] = "linear"
    final_fraction: float = Field(default=0.0, ge=0, le=1, description="lr at the end, as a fraction of the highest.")


class Step(Schedule):
    """lr(epoch) = lr · factor^⌊epoch / every_epochs⌋, the first epoch being 0."""

    name: Literal["step"] = "step"
    every_epochs: Annotated[int | float, WithJsonSchema({"type": "number", "minimum": 1, "maximum": 10_000})] = Field(
        default=10, ge=1, le=10_000, description="Epochs between two steps; a fraction such as 2.4 is allowed."
    )
    factor: float = Field(default=0.1, gt=0, lt=1, description="What lr is multiplied by at a step.")


class Plateau(Schedule):
    """lr is multiplied by ``factor`` when the validation loss has not fallen for more than ``patience`` epochs."""

    name: Literal["plateau"] = "plateau"
    patience: int = Field(
        default=3, ge=0, le=1000, description="Epochs without a lower validation loss that are tolerated."
    )
    factor: float = Field(default=0.3, gt=0, lt=1, description="What lr is multiplied by after them.")
    final_fraction: float = Field(
        default=0.001, ge=0, le=1, description="lr is never less than this fraction of the highest."
    )


AnyOptimizer = Annotated[Sgd | AdamW | RmsProp, Field(discriminator="name")]
AnySchedule = Annotated[Constant | Cosine | Linear | Step | Plateau, Field(discriminator="name")]
Augmentation = Literal["none", "crop", "flip", "crop-flip", "cutout", "crop-cutout", "flip-cutout", "crop-flip-cutout"]


class Recipe(RecipePart):
    """The training recipe of a search. The defaults are the ones of a residual network on small images.

    ``{"name": "resnet", ...}`` starts from a published recipe, see ``workers.recipes``; other fields override its own.
    """

    name: str = Field(default="", max_length=40, description="Published recipe that it started from; empty: none.")

    batch_size: int = Field(
        default=128,
        ge=4,
        le=65_536,
        description="Images a step at most. An epoch is cut into batches of nearly equal size, so none is tiny.",
    )
    optimizer: AnyOptimizer = Field(default=Sgd(), description="Optimiser and its constants.")
    schedule: AnySchedule = Field(default=Cosine(), description="Learning rate over time.")
    augmentation: Augmentation = Field(
        default="none",
        description="Random crops of the padded image, horizontal flips, cut-out squares, or several of them.",
    )
    crop_padding: int | None = Field(
        default=None, ge=1, le=64, description="Pixels of padding before a crop; null: an eighth of the image's height."
    )
    cutout_size: int | None = Field(
        default=None,
        ge=1,
        le=512,
        description="Side of the square that is cut out, in pixels; null: half the image's height.",
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="Probability that is spread over all classes.")
    gradient_clip: float | None = Field(
        default=None, gt=0, le=1e6, description="Largest L2 norm of the gradient; null: no clipping."
    )
    decay_norm_and_bias: bool = Field(
        default=False, description="Whether weight decay also acts on biases and the scales of normalisation layers."
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32",
        description="Mixed precision of the forward pass. bf16 works everywhere; fp16 on GPUs, and is fp32 on CPUs.",
    )
    channels_last: bool = Field(
        default=True, description="NHWC memory layout of the convolutions: faster, the same results."
    )
    init: Literal["torch", "he", "xavier", "normal"] = Field(
        default="torch",
        description="Fresh weights: torch's own; normal with variance 2 / fan-in (He et al. 2015, equation 10); "
        "uniform with variance 2 / (fan-in + fan-out) (Glorot); normal with deviation 0.01. Biases are 0 but for "
        "torch's.",
    )
    lr_batch: int | None = Field(
        default=None,
        ge=1,
        le=65_536,
        description="Batch size that lr is meant for: lr is used times batch_size / lr_batch; null: as it is.",
    )
    class_weights: Literal["none", "inverse", "enet"] = Field(
        default="none",
        description="Weight of a class (of its pixels) in the loss, by its share p: none; 1 / (classes · p); "
        "1 / ln(1.02 + p), as in ENet.",
    )
    box_weight: float = Field(
        default=5.0, ge=0, le=1000, description="What the loss of the box counts for beside the class's: localisation."
    )
    mixup: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="α of mixup: images and losses of pairs mixed with λ from Beta(α, α); 0: none (Zhang et al. 2018).",
    )
    ema_decay: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Keep a moving average of the weights with this decay, and evaluate and export that; null: none.",
    )
    drop_path: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Highest probability that a residual branch is dropped for an image, in blocks with a drop path.",
    )
    drop_path_over: Literal["constant", "depth", "epochs", "depth-epochs"] = Field(
        default="depth",
        description="How the probability rises to drop_path: not at all, with depth (stochastic depth), with the "
        "epochs (scheduled drop path), or both.",
    )
    auxiliary_weight: float = Field(
        default=0.3,
        ge=0,
        le=10,
        description="What the loss of an auxiliary head counts for, where there are any; 0: none.",
    )
    test_views: Literal["one", "flip", "ten-crop"] = Field(
        default="one",
        description="Views whose probabilities are averaged in a second figure of full trainings and of the test: the "
        "image and its mirror image, or ten crops. Classification alone.",
    )

    @model_validator(mode="before")
    @classmethod
    def _published(cls, given: Any) -> Any:
        """Fill in what the recipe called ``name`` says. Raises ValueError for an unknown name."""
        if isinstance(given, dict) and given.get("name"):
            return completed(given)
        return given

    @property
    def highest_lr(self) -> float:
        """lr after the warm-up, in proportion to the batch where lr_batch says so."""
        return self.optimizer.lr * (self.batch_size / self.lr_batch if self.lr_batch else 1.0)

    def identity(self) -> dict[str, Any]:
        """What decides a training, as JSON: options that were added later only where they are used."""
        added = {name for name in ADDED if getattr(self, name) == Recipe.model_fields[name].default}
        return self.model_dump(mode="json", exclude={"name", *added})


ADDED = (
    "init", "lr_batch", "class_weights", "box_weight", "mixup", "ema_decay", "drop_path", "drop_path_over",
    "auxiliary_weight", "test_views",
)  # fmt: skip
"""Fields that recipes of earlier versions lack: at their defaults an evaluation keeps the key it had."""
