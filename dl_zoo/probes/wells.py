"""In which well of a landscape do the weights end?"""

from typing import Any

from dl_zoo.errors import UserError


def wells(task: Any, data: Any) -> dict[str, float]:
    """Of the net's weights, each a walker of its own on the landscape of the data:

        wells/deeper    the share beyond the barrier, on the side of the deeper well
        wells/weights   how many there are

    Raises:
        UserError: data without a barrier, or a net whose weights are not one for each of their copies.
    """
    if not hasattr(data, "barrier"):
        raise UserError("these data have no wells; data=double_well has")
    weight = getattr(task.net, "weight", None)
    if weight is None or tuple(weight.shape) != (data.copies,):
        raise UserError(f"it looks at {data.copies} weights side by side, and this net has none; model=tied_linear")
    beyond = weight.detach() > data.barrier
    return {"wells/deeper": float(beyond.float().mean()), "wells/weights": float(len(beyond))}
