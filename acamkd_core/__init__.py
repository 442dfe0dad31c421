"""acamkd_core: the distillation library. Importing it loads nothing heavy."""

__version__ = "0.1.0"
