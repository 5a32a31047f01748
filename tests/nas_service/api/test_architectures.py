"""Architectures over HTTP: kept, scaled, refused."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from search_spaces.catalogue import REFERENCES
from search_spaces.cost import costs
from tests.nas_service.api.test_requests import problem


def kept(http: httpx.Client, name: str) -> dict[str, Any]:
    answer = http.post("/v1/architectures", json={"reference": name})
    assert answer.status_code in (200, 201), answer.text
    found: dict[str, Any] = answer.json()
    return found


def scaled(http: httpx.Client, name: str, **how: Any) -> dict[str, Any]:
    answer = http.post(f"/v1/architectures/{kept(http, name)['fingerprint']}/scale", json=how)
    assert answer.status_code in (200, 201), answer.text
    found: dict[str, Any] = answer.json()
    assert http.get(answer.headers["location"]).json()["costs"] == found["costs"]
    return found


def test_an_architecture_is_kept_once(http: httpx.Client) -> None:
    first = http.post("/v1/architectures", json={"reference": "resnet44_cifar"})
    again = http.post("/v1/architectures", json={"architecture": first.json()["architecture"]})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert first.json()["costs"]["params"] == REFERENCES["resnet44_cifar"].params
    assert http.get(first.headers["location"]).json()["trials"] == []


def test_auxiliary_heads_cost_nothing(http: httpx.Client) -> None:
    """As in a search, whose row of the same architecture this is."""
    assert kept(http, "googlenet_auxiliary")["costs"] == kept(http, "googlenet")["costs"]


def test_two_requests_are_efficientnets_method(http: httpx.Client) -> None:
    """The base, then phi; and the coefficients that were released for B3."""
    base = kept(http, "efficientnet_b0")
    larger = scaled(http, "efficientnet_b0", phi=1)
    assert larger["architecture"]["task"]["input_shape"] == [3, 258, 258]
    assert 1.8 < larger["costs"]["macs"] / base["costs"]["macs"] < 2.7
    b3 = scaled(http, "efficientnet_b0", depth=1.4, width=1.2, input_shape=[3, 300, 300])
    assert b3["costs"]["params"] == REFERENCES["efficientnet_b3"].params


def test_n_and_f_restack_a_cell(http: httpx.Client) -> None:
    mobile = scaled(http, "nasnet_a_cifar", cells=4, filters=44, stem=32, input_shape=[3, 224, 224], classes=1000)
    assert mobile["costs"]["params"] == REFERENCES["nasnet_a_mobile"].params
    assert mobile["costs"]["macs"] == REFERENCES["nasnet_a_mobile"].macs


def test_other_data_is_another_task(http: httpx.Client) -> None:
    found = scaled(http, "resnet20_cifar", input_shape=[1, 28, 28], classes=62)
    assert found["architecture"]["task"] == {"kind": "classification", "input_shape": [1, 28, 28], "classes": 62}
    assert found["costs"]["params"] == costs(REFERENCES["resnet20_cifar"].build()).params - 2 * 9 * 16 + 52 * 65


@pytest.mark.parametrize(
    ("how", "pointer", "says"),
    [
        ({}, "", "nothing to scale; allowed: phi"),
        ({"phi": 1, "depth": 2}, "", "phi, depth and width together"),
        ({"cells": 3}, "", "allowed: both or none"),
        ({"phi": 11}, "/phi", "11"),
        ({"phi": 1, "alpha": 0.5}, "/alpha", "0.5"),
        ({"width": "wide"}, "/width", "wide"),
        ({"input_shape": [3, 32]}, "/input_shape", "at least 3"),
        ({"input_shape": [0, 32, 32]}, "/input_shape", "(0, 32, 32)"),
        ({"classes": 0}, "/classes", "0"),
        ({"phi": 10, "alpha": 3, "beta": 3}, "", "cannot be scaled so"),
        ({"colour": 1}, "/colour", "not known"),
    ],
)
def test_what_cannot_be_scaled_is_refused(http: httpx.Client, how: dict[str, Any], pointer: str, says: str) -> None:
    fingerprint = kept(http, "resnet20_cifar")["fingerprint"]
    body = problem(http.post(f"/v1/architectures/{fingerprint}/scale", json=how), 422)
    assert says in body["detail"]
    assert body["errors"][0]["pointer"].startswith(pointer)


def test_what_cannot_be_kept_is_refused(http: httpx.Client) -> None:
    assert "did you mean" in problem(http.post("/v1/architectures", json={"reference": "resnet20_cifr"}), 422)["detail"]
    problem(http.post("/v1/architectures", json={}), 422)
    architecture = REFERENCES["resnet20_cifar"].build().to_json()
    architecture["nodes"][3]["args"]["out_channels"] = "many"
    body = problem(http.post("/v1/architectures", json={"architecture": architecture}), 422)
    assert body["errors"][0]["pointer"] == "/architecture/nodes/3/args/out_channels"
    problem(http.post("/v1/architectures/nowhere/scale", json={"phi": 1}), 404)
