"""Let torchvision's wheel for CUDA import beside a torch for CPU: declare the two operators its library would bring."""

import torch

# torchvision/_meta_registrations.py refers to these two unconditionally; nothing here calls them.
library = torch.library.Library("torchvision", "FRAGMENT")
for name in ("nms", "qnms"):
    try:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    except RuntimeError:  # a matching pair of wheels has them
        break
