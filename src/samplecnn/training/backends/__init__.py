"""How a training computes: in the way of `model/backends/` that is proven and fastest, in CUDA graphs."""
