"""What libraries say on the terminal that a user can do nothing about. Loads none of them."""

import logging
import warnings


def quiet_libraries() -> None:
    """Silence it in this process."""
    for library in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)` is deprecated", FutureWarning)
    # What is logged once an epoch is the same number on all devices already.
    warnings.filterwarnings("ignore", "It is recommended to use `self.log.*sync_dist=True", UserWarning)
    # Frozen parts are; the log says which.
    warnings.filterwarnings("ignore", r"Found \d+ module\(s\) in eval mode", UserWarning)
    # They differ in dimensions of size 1, whose strides mean nothing.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides", UserWarning)
    # Somebody has asked for the CPU, or the log says why the GPU cannot be used.
    warnings.filterwarnings("ignore", "GPU available but not used", UserWarning)
    # It is off on purpose: what is float32, as the first layer in mixed precision, is to be float32.
    warnings.filterwarnings("ignore", "TensorFloat32 tensor cores for float32 matrix", UserWarning)
