"""Several processes that train one student: who this one is, and what they have to agree on.

Everything here is a no-op in a run of one process, so that code which calls it needs no second path. All processes of a
run must make the same calls in the same order; the ones on numbers and objects go through the CPU (gloo), the ones on
tensors through the tensors' own device (NCCL on GPUs).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import FileStore
from torch.nn.parallel import DistributedDataParallel

from acamkd_core.spec.errors import CoreError

T = TypeVar("T")
# Rank 0 looks at a whole dataset alone before the others may go on; a death is noticed by the launcher, not by this.
PATIENCE = timedelta(hours=2)


def started_by_torchrun() -> bool:
    """Whether this process is one of several, by the environment that torchrun gives."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "LOCAL_RANK" in os.environ


def local_rank() -> int:
    """Number of this process on its machine: its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def joined(folder: Path) -> Iterator[None]:
    """Meets the other processes of the run, if there are any, through a file in the run's folder: no port is opened for it."""
    if not started_by_torchrun():
        yield
        return
    count, number = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    store = FileStore(str(folder / f"ranks-{os.environ.get('TORCHELASTIC_RUN_ID', 'run')}"), count)
    dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def world() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process; 0 alone speaks and writes."""
    return dist.get_rank() if world() > 1 else 0


def own_seed() -> tuple[int, ...]:
    """What makes a seed this process's own (dropout, noise): nothing when it is the only one."""
    return (rank(),) if world() > 1 else ()


def summed(value: Tensor) -> Tensor:
    """Sum over processes, on the tensor's device; carries no gradient."""
    if world() > 1:
        value = value.detach().clone()
        dist.all_reduce(value)
    return value


# torch.distributed.nn.functional.all_reduce does this, and is deprecated in favour of a private module.
class _Added(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return summed(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return summed(gradient)


def added(value: Tensor) -> Tensor:
    """Sum over processes that carries gradient: the losses of all processes depend on what each has put in."""
    return _Added.apply(value) if world() > 1 else value  # type: ignore[no-untyped-call]


def total(number: float) -> float:
    """Sum over processes of a count."""
    return float(summed(torch.tensor(number, dtype=torch.float64))) if world() > 1 else number


def means(values: Sequence[float]) -> list[float]:
    """Mean over processes of each value; one that is not finite anywhere is finite nowhere."""
    if world() == 1:
        return list(values)
    found: list[float] = (summed(torch.tensor(values, dtype=torch.float64)) / world()).tolist()
    return found


def any_of(flag: bool) -> bool:
    """Whether it is true in any process: all get the same answer."""
    return total(float(flag)) > 0


def gathered(value: T) -> list[T]:
    """The values of all processes, in order of rank."""
    if world() == 1:
        return [value]
    found: list[Any] = [None] * world()
    dist.all_gather_object(found, value)
    return found


def from_first(make: Callable[[], T]) -> T:
    """What rank 0 makes, for all. The others wait; an error in rank 0 ends the run."""
    if world() == 1:
        return make()
    found: list[Any] = [make() if rank() == 0 else None]
    dist.broadcast_object_list(found, src=0)
    return found[0]  # type: ignore[no-any-return]


@contextmanager
def first_alone() -> Iterator[None]:
    """Rank 0 does the block before the others: it may write files that they then read."""
    if world() > 1 and rank() != 0:
        dist.barrier()
    yield
    if world() > 1 and rank() == 0:
        dist.barrier()


def copy_from_first(tensors: Iterable[Tensor]) -> None:
    """Overwrites the tensors by rank 0's. Batch norm's statistics differ between processes, and rank 0's are kept."""
    if world() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Mean over processes of gradients that no DistributedDataParallel looks after."""
    if world() > 1:
        for parameter in parameters:
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= world()


def together(module: nn.Module) -> nn.Module:
    """The module with gradients averaged over processes, and rank 0's buffers at every forward pass."""
    if world() == 1:
        return module
    # An auxiliary head without weight, or a level that nothing looks at, has no gradient; DDP would wait for it.
    return DistributedDataParallel(module, find_unused_parameters=True)


def apart(module: nn.Module) -> AbstractContextManager[None]:
    """While it lasts, backward passes of a `together` module add up gradients without averaging them."""
    if isinstance(module, DistributedDataParallel):
        return module.no_sync()
    return nullcontext()


def synchronised_norm(module: nn.Module) -> Any:
    """The network with synchronised batch norms in place of its own.

    Raises:
        CoreError: `train.sync_bn`: some are not torch's own, and would lose what they do beside (timm's have an activation).
    """
    ordinary = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    if any(isinstance(m, nn.modules.batchnorm._BatchNorm) and type(m) not in ordinary for m in module.modules()):
        raise CoreError(
            "train.sync_bn",
            "the batch norms of this backbone have their activation inside and cannot be synchronised",
            hint="sync_bn: false, student.freeze.norm: eval, or another backbone",
            field="train.sync_bn",
        )
    return nn.SyncBatchNorm.convert_sync_batchnorm(module)


def plain_norm(module: nn.Module) -> nn.Module:
    """Puts ordinary batch norm, with the same tensors, where `convert_sync_batchnorm` had put synchronised: exports fold it."""
    for name, child in module.named_children():
        if isinstance(child, nn.SyncBatchNorm):
            # A meta tensor costs nothing, and the old ones take its place.
            plain = nn.BatchNorm2d(
                child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats, device="meta"
            )
            plain._parameters, plain._buffers = child._parameters, child._buffers
            module.add_module(name, plain.train(child.training))
        else:
            plain_norm(child)
    return module


def lost_peer(error: BaseException) -> bool:
    """Whether an error only says that another process of the run is gone."""
    if world() == 1:
        return False
    text = str(error)
    words = ("gloo", "Connection closed by peer", "Connection reset by peer", "NCCL", "Broken pipe")
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in text for word in words)
    )
