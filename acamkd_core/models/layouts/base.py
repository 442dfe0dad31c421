"""What a key map is: ordered rules from a file's tensor names to ours, and what little has to be done to tensors."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from torch import Tensor


@cache
def _pattern(text: str) -> re.Pattern[str]:
    """Compiled once: all key maps together have more patterns than `re` keeps."""
    return re.compile(text)


@dataclass(frozen=True)
class Layout:
    """Rules (pattern, replacement) from a source's names to ours; of each group the first that matches is applied.

    A name that no rule of a group matches passes that group unchanged. `ignored` names tensors that networks of this
    source carry and ours rightly lack, such as the ImageNet classifier: they are not reported as unexpected.
    `conversions` (pattern to be found in the source's name, function) are for tensors whose rows it has in another order.
    """

    name: str
    groups: tuple[tuple[tuple[str, str], ...], ...] = ()
    ignored: tuple[str, ...] = ()
    conversions: tuple[tuple[str, Callable[[Tensor], Tensor]], ...] = ()

    def rename(self, name: str) -> str | None:
        """Our name of a tensor of the file; None for one to be ignored."""
        name = re.sub(r"^(module\.)+", "", name)  # saved from inside DataParallel
        if any(_pattern(pattern).match(name) for pattern in self.ignored):
            return None
        for rules in self.groups:
            for pattern, replacement in rules:
                renamed, hits = _pattern(pattern).subn(replacement, name, count=1)
                if hits:
                    name = renamed
                    break
        return name

    def convert(self, name: str, tensor: Tensor) -> Tensor:
        """The file's tensor `name` as ours has it."""
        for pattern, function in self.conversions:
            if _pattern(pattern).search(name):
                tensor = function(tensor)
        return tensor
