"""Averages with an earlier checkpoint while training goes on, which starts again from them.

Sequential Fine-tuning with Averaging (SFA; Kleiman et al., "Soup to go", arXiv 2501.05559): in a
stage, 1 / p times (rounded) at equal distances, the last time after its last step,

    theta <- (1 - beta) theta + beta theta_o

with theta the weights and theta_o those before the stage: the base, or with tasks in turn the model
that the earlier ones have made. Adam's moments stay. It is done to what is trained then, and
theta_o is held of what was trained in the stage, in the type of the weights; each rank holds a
share.
"""

from __future__ import annotations

from torch import Tensor, nn

from hft_ray.ranks import Ranks
from hft_ray.training.stage import Stage
from hft_ray.training.weight_shares import WeightShares
from hft_ray.weight_space import interpolate


class EarlierCheckpoint(WeightShares):
    """The weights before a stage, of what it trains.

    Args:
        model: The model.
        weight: beta.
        interval: p.
        ranks: The processes that train together.
    """

    def __init__(self, model: nn.Module, weight: float, interval: float, ranks: Ranks) -> None:
        super().__init__(model, ranks)
        self._weight, self._interval = weight, interval

    def renew(self) -> None:
        """Begin a stage: the weights of now are the earlier ones."""
        self._shares.clear()

    def due(self, stage: Stage, done: int) -> bool:
        """Return whether weights are averaged after ``done`` steps of the run, in ``stage``."""
        times, step = round(1 / self._interval), done - stage.start
        # Counted in integers: multiples of a rounded interval would leave a last average that
        # follows the one before at once.
        return step * times // stage.steps > (step - 1) * times // stage.steps

    def averaged(self, name: str, theta: Tensor) -> Tensor:
        """Return the average of a parameter's present values with the earlier ones (a collective).

        Args:
            name: The parameter.
            theta: Its present values, all of them.
        """
        earlier = self.whole(name).to(theta.device, theta.dtype)
        return interpolate(theta, earlier, 1 - self._weight)
