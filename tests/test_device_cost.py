"""Seconds of workers as hours of devices, and their price."""

from __future__ import annotations

import pytest

from hft_ray.config import Cluster
from hft_ray.device_cost import cost_of_hours, cost_of_workers


@pytest.mark.parametrize(
    ("cluster", "hours", "price", "text"),
    [
        ({}, 2.0, None, "2 device hours"),
        ({"workers": 8, "cpus_per_worker": 4}, 2.0, None, "2 device hours"),
        ({"gpus_per_worker": 1, "price_per_device_hour": 1.5}, 2.0, 3.0, "price 3.00"),
        ({"gpus_per_worker": 2, "price_per_device_hour": 1.5}, 4.0, 6.0, "price 6.00"),
        (
            {"gpus_per_worker": 0.25, "price_per_device_hour": 4},
            0.5,
            2.0,
            "0.5 device hours, price",
        ),
        ({"price_per_device_hour": 0}, 2.0, 0.0, "price 0.00"),
    ],
)
def test_two_hours_of_workers(cluster, hours, price, text):
    cost = cost_of_workers(Cluster(**cluster), 7200.0)
    assert (cost.device_hours, cost.price) == (hours, price)
    assert text in str(cost)
    assert cost_of_hours(Cluster(**cluster), hours) == cost
    assert cost.times(3).device_hours == 3 * hours
    assert cost.times(3).price == (None if price is None else 3 * price)


@pytest.mark.parametrize("price", [-1.0, float("nan"), float("inf"), "2 EUR"])
def test_a_price_is_a_finite_number_from_zero_on(price):
    with pytest.raises(ValueError, match="price_per_device_hour"):
        Cluster(price_per_device_hour=price)
