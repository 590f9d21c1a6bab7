"""Forward and backward of a training step as one CUDA graph: a single launch instead of hundreds.

Not run on a GPU yet.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from samplecnn.data.datamodule import Batch

AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}  # by Lightning's names

WARM_UP = 3  # steps before the capture: libraries choose their algorithms and take their workspaces


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return mixed precision by Lightning's name of it, or none for other names.

    It keeps no copies of weights in the lower precision: a graph would go on with those of its capture.
    """
    chosen = AUTOCAST.get(precision)
    return torch.autocast(device.type, dtype=chosen, enabled=chosen is not None, cache_enabled=False)


class StepGraph:
    """Captures ``loss(batch).backward()`` of a network and replays it on other batches of the same shape.

    Gradients, running statistics and the dropout's random numbers are as without a graph: the capture leaves
    weights, statistics and the random state as they were, and replays draw from PyTorch's own generator.
    The gradients stay in the same memory; nothing may set them to None. Neither may anything replace the
    memory of weights and running statistics; loading a state writes into it. ``scale`` is what the loss is
    multiplied by before the backward pass (the gradient scaler's own tensor, with float16); ``precision`` is
    Lightning's name. The update is not part of it: a step or two of fused kernels, which keep rates,
    momentum and the gradient scaler's verdict where Lightning's checkpoints look for them.

    Raises whatever the network raises that cannot be captured, such as a block that waits for the GPU.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[[Batch], Tensor],
        batch: Batch,
        precision: str,
        scale: Tensor | None = None,
    ) -> None:
        self.batch = Batch(*(part.clone() for part in batch))
        device = batch.waveforms.device
        state = {name: buffer.clone() for name, buffer in network.named_buffers()}
        random = torch.cuda.get_rng_state(device)

        def step() -> Tensor:
            with autocast(device, precision):
                value = loss(self.batch)
            # Lightning has mixed precision on around the whole step: it is for the forward pass alone.
            with torch.autocast(device.type, enabled=False):
                (value if scale is None else value * scale).backward()
            return value.detach()

        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                network.zero_grad(set_to_none=True)
                step()
        torch.cuda.current_stream(device).wait_stream(side)
        network.zero_grad(set_to_none=True)  # so that the capture makes the gradients, in the graph's memory
        self.graph = torch.cuda.CUDAGraph()
        # On the stream of the warm-up, where libraries have their workspaces; other threads may use CUDA.
        with torch.cuda.graph(self.graph, stream=side, capture_error_mode="thread_local"):
            self.loss = step()
        for name, buffer in network.named_buffers():
            buffer.copy_(state[name])
        torch.cuda.set_rng_state(random, device)

    def __call__(self, batch: Batch) -> Tensor:
        """Leave the gradients of a batch in the parameters; return its loss, overwritten by the next call.

        Raises ValueError for a batch of another shape than the first.
        """
        shapes, captured = (
            [tuple(part.shape) for part in (given.waveforms, given.labels)] for given in (batch, self.batch)
        )
        if shapes != captured:
            raise ValueError(
                f"the step was captured for waveforms and labels of shapes {captured}, not {shapes}: "
                "every batch size needs a StepGraph of its own"
            )
        self.batch.waveforms.copy_(batch.waveforms)
        self.batch.labels.copy_(batch.labels)
        self.graph.replay()
        return self.loss
