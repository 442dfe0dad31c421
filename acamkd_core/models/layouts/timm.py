"""timm's ResNets and MobileNetV2 into our backbones and classifiers. (A backbone `timm:NAME` takes timm's names as they are: `TimmBackbone`.)

`bn1` is another layer in each: behind the 7x7 stem, behind the third convolution of the deep stem (networks called
`resnet..s`, 64, 64 and 128 channels), behind MobileNetV2's stem. So there are three maps; the one that matches most counts.
"""

from acamkd_core.models.layouts.base import Layout

_CLASSIFIER = (r"^fc\.", "class_head.classifier.")
_STAGES = (r"^(layer[1-4])\.", r"backbone.\1.")

RESNET = Layout(
    name="timm",
    groups=(((r"^conv1\.", "backbone.stem.0."), (r"^bn1\.", "backbone.stem.1."), _STAGES, _CLASSIFIER),),
)

DEEP_STEM = Layout(
    name="timm",
    groups=(((r"^conv1\.([01346])\.", r"backbone.stem.\1."), (r"^bn1\.", "backbone.stem.7."), _STAGES, _CLASSIFIER),),
)

_REPEATS = (1, 2, 3, 4, 3, 3, 1)  # table 2 of the paper: timm counts blocks by stage, torchvision from the image on
_BLOCKS = [(stage, index) for stage, count in enumerate(_REPEATS) for index in range(count)]

MOBILENET_V2 = Layout(
    name="timm",
    groups=(
        (
            (r"^conv_stem\.", "backbone.features.0.0."),
            (r"^bn1\.", "backbone.features.0.1."),
            (r"^conv_head\.", "class_head.conv.0."),
            (r"^bn2\.", "class_head.conv.1."),
            (r"^classifier\.", "class_head.classifier.1."),
            *(
                (rf"^blocks\.{stage}\.{index}\.", f"backbone.features.{number}.conv.")
                for number, (stage, index) in enumerate(_BLOCKS, 1)
            ),
        ),
        (
            # Block 1 has no expansion.
            (r"^(backbone\.features\.1\.conv)\.conv_dw\.", r"\1.0.0."),
            (r"^(backbone\.features\.1\.conv)\.bn1\.", r"\1.0.1."),
            (r"^(backbone\.features\.1\.conv)\.conv_pw\.", r"\1.1."),
            (r"^(backbone\.features\.1\.conv)\.bn2\.", r"\1.2."),
            (r"^(backbone\.features\.\d+\.conv)\.conv_pw\.", r"\1.0.0."),
            (r"^(backbone\.features\.\d+\.conv)\.bn1\.", r"\1.0.1."),
            (r"^(backbone\.features\.\d+\.conv)\.conv_dw\.", r"\1.1.0."),
            (r"^(backbone\.features\.\d+\.conv)\.bn2\.", r"\1.1.1."),
            (r"^(backbone\.features\.\d+\.conv)\.conv_pwl\.", r"\1.2."),
            (r"^(backbone\.features\.\d+\.conv)\.bn3\.", r"\1.3."),
        ),
    ),
)
