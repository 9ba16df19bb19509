"""Let torchvision's wheel for CUDA be imported beside a torch for CPU: declare the two operators of its library."""

import torch

# torchvision/_meta_registrations.py refers to these two unconditionally; nothing here calls them.
library = torch.library.Library("torchvision", "FRAGMENT")
for name in ("nms", "qnms"):
    try:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    except RuntimeError:  # torch and torchvision are of the same build, so the operators exist
        break
