"""The registry: names, builders, and errors about them."""

from __future__ import annotations

import pytest

from models import NeuronSetting, UnknownModel, create_model, list_models
from models.registry import register


def test_all_published_names_are_known() -> None:
    known = list_models()
    assert {"preresnet.resnet18_if", "preresnet.resnet18_lif"} <= set(known)
    assert {f"vgg.vgg{d}_{n}" for d in (11, 13, 16, 19) for n in ("if", "lif")} <= set(known)
    snn = {f"preresnet_snn.resnet{d}_{n}" for d in (18, 34, 50) for n in ("if", "lif")}
    assert snn <= set(known)
    for stage in ("preresnet_ann", "preresnet_cal_Vth"):
        names = {f"{stage}.{net}" for net in ("resnet18", "resnet34", "resnet50", "preresnet50")}
        assert names <= set(known)
    assert list_models("vgg.") == sorted(n for n in known if n.startswith("vgg."))


def test_an_unknown_name_gets_the_nearest_and_the_list() -> None:
    with pytest.raises(UnknownModel, match="did you mean preresnet.resnet18_lif") as error:
        create_model("resnet18_lif", NeuronSetting())
    assert "vgg.vgg11_if" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="already registered"):
        register("vgg.vgg11_if")(lambda setting: None)


def test_dropout_for_a_network_without_it() -> None:
    with pytest.raises(ValueError, match="^--dropout"):
        create_model("preresnet_snn.resnet18_if", NeuronSetting(), dropout=0.1)
