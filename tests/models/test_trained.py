import pytest

from models.trained import build_network, network_name

SETTING = {"timesteps": 3, "Vth": 0.2, "train_Vth": False}
CONTENT = {"model": "vgg.vgg11_lif", "num_classes": 4, "setting": SETTING}


def test_the_network_is_the_one_described():
    network = build_network(CONTENT)
    assert network.setting.timesteps == 3 and network.classifier[1].out_features == 4
    assert network_name(CONTENT) == "vgg.vgg11_lif"
    assert network_name({"arch": "preresnet_snn.resnet18_if"}) == "preresnet_snn.resnet18_if"


@pytest.mark.parametrize("fact", ["model", "num_classes", "setting"])
def test_content_that_lacks_a_fact_is_refused(fact):
    content = {key: value for key, value in CONTENT.items() if key != fact}
    with pytest.raises(ValueError, match="it does not say its network, classes and neuron setting"):
        build_network(content)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": "vgg.vgg12_lif"}, "did you mean vgg.vgg1"),
        ({"setting": SETTING | {"colour": 1}}, "damaged or of another version"),
        ({"setting": SETTING | {"timesteps": 0}}, "--timesteps must be at least 1"),
        ({"num_classes": None}, "damaged or of another version"),
    ],
)
def test_content_that_makes_no_sense_is_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        build_network(CONTENT | change)
