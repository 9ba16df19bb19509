"""Operations of Paddle that round to float32 inside, even in float64, as layers and as functions between layers."""

from ..trace import Trace

# Operations of Paddle 3.3.1 that round to float32 inside, even in float64: {kind: error of the layer alone}.
FLOORS = {
    "upsample": 3e-5,  # positions of pixels, so it grows with the side: 4e-6 from 36 to 35 pixels
    "lppool1d": 1e-7,
    "lppool2d": 1e-7,
    "selu": 1e-6,
    "elu": 1e-7,
    "celu": 1e-7,
    "softplus": 1e-7,
}


def allowed_after(port: Trace, allowed: float, error: float | None, node: int, amplification: float) -> float:
    """The largest error in the chain that passes before a node, if such functions were called up to there.

    What a function returns may be used after layers that were called later.

    Args:
        port: trace of the port.
        allowed: before the node before.
        error: of the values that the node is given.
        node: number of the node, or of nodes for the end of the model.
        amplification: how much an error may grow on the way to the logits.
    """
    floors = [FLOORS[kind] for position, kind in port.rounding_calls if position <= node]
    if floors and allowed < (error or 0.0) <= max(floors):
        return error * amplification
    return allowed
