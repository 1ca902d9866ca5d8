"""How an update travels: what rounding may cost, what it must keep, what is refused."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
import torch

from fedmri.errors import ConfigError, RoundError
from fedmri.plan import TransportConfig
from fedmri.round import Form, Update, Weights
from fedmri.stages.sections.codec import Codec
from fedmri.updates.codec import PLAIN, declared, decode, encode
from fedmri.wire import UPDATE, content_of, n_bytes, read_answer
from tests.test_wire import over_a_network

ROUNDED = [
    TransportConfig("weights", "fp16"),
    TransportConfig("weights", "bf16"),
    TransportConfig("difference", "fp16"),
    TransportConfig("difference", "bf16"),
    TransportConfig("difference", "int8"),
]
ALL = [PLAIN, TransportConfig("difference", "fp32"), *ROUNDED]
EACH = pytest.mark.parametrize("config", ALL, ids=lambda c: f"{c.update}-{c.dtype}")
EACH_ROUNDED = pytest.mark.parametrize("config", ROUNDED, ids=lambda c: f"{c.update}-{c.dtype}")


def model(seed: int, size: float = 1) -> Weights:
    """Return entries of every sort: a kernel, a matrix, a bias, a variance, counts, nothing."""
    source = torch.Generator().manual_seed(seed)
    return {
        "conv.weight": size * torch.randn(4, 3, 2, 2, generator=source),
        "fc.weight": size * torch.randn(5, 7, generator=source),
        "fc.bias": size * torch.randn(5, generator=source),
        "bn.running_var": size * torch.rand(4, generator=source),
        "bn.num_batches_tracked": torch.tensor(seed),
        "empty": torch.zeros(0, 3),
    }


def moved(start: Weights, seed: int, size: float) -> Weights:
    """Return a model after a small step; its count has gone on by one."""
    step = model(seed, size)
    return {k: v + (step[k] if v.is_floating_point() else 1) for k, v in start.items()}


def sent(arrays: Weights) -> Update:
    """Return an update as the server gets it: from the bytes that Flower sends."""
    content = content_of(Update("a", arrays, 3, 2))
    content["model"] = over_a_network(content.array_records["model"])
    return read_answer(UPDATE, "a", content)


def there(
    trained: Weights, received: Weights, config: TransportConfig
) -> Mapping[str, torch.Tensor]:
    """Return what the server makes of a site's first update."""
    return decode(sent(encode(trained, received, config, {}).arrays), received, config).weights


def bits(weights: Mapping[str, torch.Tensor]) -> dict[str, bytes]:
    """Return the bytes of every entry."""
    return {name: value.contiguous().numpy().tobytes() for name, value in weights.items()}


def test_by_default_an_update_travels_as_it_is() -> None:
    """The very tensors, none of them copied, and nothing to keep at the site."""
    trained, received = model(1), model(0)
    encoded = encode(trained, received, PLAIN, {})
    assert encoded.arrays is trained
    assert encoded.residual == {}
    update = Update("a", trained, 1, 1)
    assert decode(update, received, PLAIN) is update


@EACH
def test_what_arrives_is_the_model_that_was_sent(config: TransportConfig) -> None:
    """Same names in the same order, same shapes and types, whatever travelled in between."""
    received = model(0)
    arrived = there(moved(received, 1, 0.01), received, config)
    assert list(arrived) == list(received)
    assert [(v.shape, v.dtype) for v in arrived.values()] == [
        (v.shape, v.dtype) for v in received.values()
    ]


@EACH_ROUNDED
def test_the_server_keeps_no_decoded_model(config: TransportConfig) -> None:
    """An entry is decoded when it is looked at and let go of with whoever looked."""
    received = model(0)
    arrived = there(moved(received, 1, 0.01), received, config)
    seen = [weakref.ref(value) for value in arrived.values()]
    decoded = [ref for name, ref in zip(received, seen, strict=True) if received[name].dim() >= 2]
    assert [ref() for ref in decoded] == [None] * 3


@EACH
def test_what_travels_is_what_is_declared(config: TransportConfig) -> None:
    """A site's border can hold an update against a list that it makes by itself."""
    received = model(0)
    arrays = sent(encode(moved(received, 1, 0.01), received, config, {}).arrays).weights
    found = {name: (value.dtype, tuple(value.shape)) for name, value in arrays.items()}
    want = {name: (form.dtype, form.shape) for name, form in declared(received, config).items()}
    assert found == want


@EACH
def test_biases_statistics_and_counts_are_never_rounded(config: TransportConfig) -> None:
    """A difference is exact to a rounding of float32, anything else to the bit."""
    received = model(0)
    trained = moved(received, 1, 100)
    arrived = there(trained, received, config)
    assert torch.equal(arrived["bn.num_batches_tracked"], torch.tensor(1))
    for name in ("fc.bias", "bn.running_var"):
        tolerance = 0 if config.update == "weights" else 100 * 3 * 2**-24
        assert torch.allclose(arrived[name], trained[name], rtol=0, atol=tolerance)


def test_a_variance_never_arrives_negative() -> None:
    """One that falls from 1000 to a thousandth would end below 0 if its change were rounded."""
    config = TransportConfig("difference", "bf16")
    received, trained = {"var": torch.tensor([1000.0, 3.0])}, {"var": torch.tensor([0.001, 0.0])}
    assert (there(trained, received, config)["var"] >= 0).all()


@pytest.mark.parametrize(("dtype", "bound"), [("fp16", 2**-11), ("bf16", 2**-8)])
def test_sixteen_bits_err_by_half_a_unit_in_the_last_place(dtype: str, bound: float) -> None:
    """Fp16 keeps 11 bits and bf16 keeps 8: of the number, or of the change if that travels."""
    received = model(0)
    trained = moved(received, 1, 0.01)
    whole = there(trained, received, TransportConfig("weights", dtype))  # type: ignore[arg-type]
    change = there(trained, received, TransportConfig("difference", dtype))  # type: ignore[arg-type]
    for name in ("conv.weight", "fc.weight"):
        exact, base = trained[name], received[name]
        assert ((whole[name] - exact).abs() <= bound * exact.abs() + 2**-25).all()
        slack = 2**-24 * (base.abs() + exact.abs())
        assert ((change[name] - exact).abs() <= bound * (exact - base).abs() + 2**-25 + slack).all()


def test_eight_bits_err_by_half_a_step_of_their_row() -> None:
    """A step is a 127th of the largest change in the row: a loud row drowns no quiet one."""
    received = {"w": torch.zeros(2, 3)}
    trained = {"w": torch.tensor([[127.0, 63.4, -63.6], [0.0127, 0.00634, -0.0127]])}
    arrived = there(trained, received, TransportConfig("difference", "int8"))["w"]
    want = torch.tensor([[127.0, 63.0, -64.0], [0.0127, 0.0063, -0.0127]])
    assert torch.allclose(arrived, want, rtol=1e-6, atol=0)


def rounds(config: TransportConfig, n_rounds: int, *, is_fed_back: bool) -> Iterator[float]:
    """Yield the largest distance of the sum of decoded changes from that of true changes.

    The site's change is the same in every round: one large value sets the size of a step, and the
    others are below half of it, so that each round rounds them to nothing.
    """
    received = {"w": torch.full((1, 8), 4.0)}
    change = torch.tensor([[1.0, *[0.003] * 7]])
    total, residual = torch.zeros(1, 8), dict[str, torch.Tensor]()
    for n_done in range(1, n_rounds + 1):
        trained = {"w": received["w"] + change}
        encoded = encode(trained, received, config, residual)
        arrived = decode(sent(encoded.arrays), received, config).weights["w"]
        total += arrived - received["w"]
        residual = encoded.residual if is_fed_back else {}
        yield float((total - n_done * change).abs().max())


@pytest.mark.parametrize(
    ("config", "step"),
    [
        (TransportConfig("difference", "int8"), 1.004 / 127),
        (TransportConfig("weights", "bf16"), 4 * 2**-7),
    ],
    ids=["int8", "bf16"],
)
def test_what_rounding_left_out_is_sent_later(config: TransportConfig, step: float) -> None:
    """The sum of what arrives stays within a step of the sum of what was learned, for ever.

    Without the residual each round loses up to half a step, and the loss adds up.
    """
    with_feedback = list(rounds(config, 60, is_fed_back=True))
    without = list(rounds(config, 60, is_fed_back=False))
    assert max(with_feedback) <= step
    assert without[-1] > 5 * step


@EACH_ROUNDED
def test_the_same_round_gives_the_same_bits(config: TransportConfig) -> None:
    """A round that is trained again after a crash must not change the run."""
    received, residual = model(0), encode(model(2), model(1), config, {}).residual
    first, second = (encode(moved(received, 3, 0.1), received, config, residual) for _ in range(2))
    assert bits(first.arrays) == bits(second.arrays)
    assert bits(first.residual) == bits(second.residual)


@EACH_ROUNDED
def test_the_residual_does_not_travel_and_the_input_is_not_changed(config: TransportConfig) -> None:
    """What is kept is not what is sent, and encoding leaves the trained network as it was."""
    received, trained = model(0), moved(model(0), 1, 0.1)
    residual = encode(model(2), model(1), config, {}).residual
    before = [bits(weights) for weights in (received, trained, residual)]
    encoded = encode(trained, received, config, residual)
    assert set(encoded.residual) == {"conv.weight", "fc.weight", "empty"}
    assert [bits(weights) for weights in (received, trained, residual)] == before
    own = {value.data_ptr() for value in encoded.residual.values() if value.numel()}
    assert own.isdisjoint(value.data_ptr() for value in encoded.arrays.values())


@pytest.mark.parametrize(("dtype", "share"), [("fp16", 0.5), ("bf16", 0.5), ("int8", 0.25)])
def test_fewer_bits_are_fewer_bytes(dtype: str, share: float) -> None:
    """A half or a quarter of a kernel's bytes; int8 adds 4 bytes for each of its 8 rows."""
    received = {"w": torch.zeros(8, 16, 3, 3, 3)}
    trained = {"w": torch.ones(8, 16, 3, 3, 3)}
    config = TransportConfig("difference", dtype)  # type: ignore[arg-type]
    n_scales = 8 * 4 if dtype == "int8" else 0
    arrays = encode(trained, received, config, {}).arrays
    assert n_bytes(arrays) == share * n_bytes(trained) + n_scales


@EACH_ROUNDED
@pytest.mark.parametrize("name", ["fc.weight", "fc.bias"])
def test_values_that_are_not_finite_are_not_encoded(config: TransportConfig, name: str) -> None:
    """As 8 bits, NaN would be a number like any other, and the server could not tell."""
    trained = model(1)
    trained[name].view(-1)[2] = torch.nan
    with pytest.raises(RoundError, match=rf"update of {name}.*\[R04\]"):
        encode(trained, model(0), config, {})


def test_a_value_beyond_fp16_is_refused() -> None:
    """It would travel as infinity."""
    trained = {"w": torch.full((2, 2), 70_000.0)}
    with pytest.raises(RoundError, match=r"found 7e\+04, want at most 65504.*\[R31\]"):
        encode(trained, trained, TransportConfig("weights", "fp16"), {})


def test_eight_bits_of_whole_weights_are_refused() -> None:
    """A round's change is less than a step of 8 bits: the model would stand still or jump."""
    with pytest.raises(ConfigError, match=r"transport\.update=difference.*\[C30\]"):
        TransportConfig("weights", "int8")


Spoiled = dict[str, torch.Tensor]


def spoil(arrays: Spoiled, how: str) -> Spoiled:
    """Return an encoded update that no version of fedmri would send."""
    scale, value = arrays["fc.weight/scale"], arrays["fc.weight"]
    if how == "no scale":
        return {k: v for k, v in arrays.items() if k != "fc.weight/scale"}
    edits = {
        "one more": {"fc.bias/scale": scale},
        "other shape": {"fc.weight": value[:, :3]},
        "floats": {"fc.weight": value.float()},
        "one scale for all": {"fc.weight/scale": scale[0]},
        "half scales": {"fc.weight/scale": scale.half()},
        "negative scale": {"fc.weight/scale": -scale},
        "NaN scale": {"fc.weight/scale": scale * torch.nan},
        "infinite scale": {"fc.weight/scale": scale / 0},
    }
    return arrays | edits[how]


@pytest.mark.parametrize(
    ("how", "code"),
    [
        *((how, "R03") for how in ("no scale", "one more", "other shape", "floats")),
        *((how, "R03") for how in ("one scale for all", "half scales")),
        *((how, "R30") for how in ("negative scale", "NaN scale", "infinite scale")),
    ],
)
def test_what_is_not_declared_is_not_decoded(how: str, code: str) -> None:
    """Broadcasting would make a model of many a malformed update; the site's name is told."""
    config = TransportConfig("difference", "int8")
    received = model(0)
    arrays = spoil(encode(moved(received, 1, 0.1), received, config, {}).arrays, how)
    with pytest.raises(RoundError, match=rf"update of site a: .*\[{code}\]"):
        decode(sent(arrays), received, config)


def test_a_plain_update_is_refused_where_an_encoded_one_was_agreed() -> None:
    """Whole weights taken for differences would double the model."""
    update = replace(sent(model(1)), site="b")
    with pytest.raises(RoundError, match=r"update of site b.*\[R03\]"):
        decode(update, model(0), TransportConfig("difference", "bf16"))


def with_more(weights: Weights) -> Weights:
    """Return what an earlier stage makes of an update: one more entry."""
    return {**weights, "seen/rows": torch.ones(3, 2, dtype=torch.float64)}


def forms_of(weights: Mapping[str, torch.Tensor]) -> dict[str, Form]:
    """Return type and shape of each entry."""
    return {name: Form(value.dtype, tuple(value.shape)) for name, value in weights.items()}


@EACH
def test_what_an_earlier_stage_adds_travels_as_it_is(config: TransportConfig) -> None:
    """It is declared, and there for that stage's half at the server."""
    received, trained = model(0), moved(model(0), 1, 0.1)
    plain, coded = encode(trained, received, config, {}), Codec(config)
    arrays = encode(with_more(trained), received, config, {}).arrays
    assert forms_of(arrays) == coded.forms(received, forms_of(with_more(received)))
    assert bits(arrays) == bits(with_more(plain.arrays))
    found = coded.incoming(sent(arrays), received).weights
    assert len(found) == len([*found])
    assert bits(found) == bits(
        with_more(dict(decode(sent(plain.arrays), received, config).weights))
    )


def test_an_entry_that_an_earlier_stage_changes_is_not_encoded() -> None:
    """The server could not tell which of the two has narrowed it."""
    received = model(0)
    forms = forms_of({**received, "fc.weight": received["fc.weight"].half()})
    assert Codec(PLAIN).forms(received, forms) == forms
    with pytest.raises(ConfigError, match=r"form of fc.weight.*\[C30\]"):
        Codec(ROUNDED[0]).forms(received, forms)
