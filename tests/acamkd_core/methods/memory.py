"""How much tensor storage is alive at once, and how large the largest tensor was, seen below autograd."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class StoragePeak(TorchDispatchMode):
    """Counts the bytes of every storage that an operator returns, from its birth to its death."""

    def __init__(self):
        super().__init__()
        self.alive, self.peak, self.largest = 0, 0, 0
        self._refs = {}

    def _watch(self, tensor):
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._refs:
            return
        size = storage.nbytes()

        def gone(_, key=key, size=size):
            self.alive -= size
            self._refs.pop(key, None)

        self._refs[key] = weakref.ref(storage, gone)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        self.largest = max(self.largest, tensor.numel())

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._watch(leaf)
        return result
