"""A bundle -> a network that can be trained further.

The float graph of a bundle has all weights of a compact network, in 16 bits, but not as PyTorch knows them: when
OpenVINO converts the network, it multiplies each batch normalisation into the convolution before it, and the
convolutions' constants lose their names. Their order is that of the computation, so that they can be put back; what
cannot be known any more is what each normalisation subtracted and divided by. Any choice gives the same network in
evaluation mode. So that it is also about the same in training mode, where each batch is normalised by its own mean *m*
and variance *v*, these are measured on patches as the training will see them, and the normalisation is set to do
nothing to them: scale sqrt(*v* + epsilon), shift *b* + *m* with the graph's own bias *b*.

Other networks, whose normalisation stays in the graph, and whose graph lacks what only training needs, are read from
``weights.safetensors`` where the bundle has it.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ranvier._openvino import core
from ranvier.bundle import Bundle
from ranvier.errors import BundleFormatError
from ranvier.training.checkpoint import Checkpoint
from ranvier.training.export import WEIGHTS
from ranvier.training.network import CompactUNet, TorchBackend, make_network
from ranvier.training.recipe import Recipe, recipe_from

_TOLERANCE = 0.01
"""Of the golden run's logits, as a share of their range; weights are stored in 16 bits."""
_FIX = "Give a training's checkpoint, or a model that was exported with --keep-weights"
Pair = tuple[NDArray[np.float32], NDArray[np.float32]]


def recipe_of_bundle(bundle: Bundle) -> Recipe:
    """The recipe that a bundle was trained by.

    Raises
    ------
    BundleFormatError
        It is an ensemble, or does not say.
    SettingsError
        The recipe is not one that this version knows.
    """
    training = bundle.about["training"]
    if training.get("ensemble"):
        raise BundleFormatError(
            "an ensemble cannot be trained further", where=bundle.folder, fix=_FIX
        )
    if not isinstance(training.get("recipe"), dict):
        raise BundleFormatError("the model does not say its recipe", where=bundle.folder, fix=_FIX)
    return recipe_from(training["recipe"], where=bundle.folder)


def read_back(bundle: Bundle, batches: Iterable[Tensor]) -> Checkpoint:
    """A checkpoint to begin a training with.

    Parameters
    ----------
    bundle
        Of one network.
    batches
        Normalised patches (n, 1, rows, columns) as the training will see them; only of use to networks with batch
        normalisation whose weights are read from the graph.

    Raises
    ------
    BundleFormatError
        The network's weights cannot be read back, or do not give the golden run again.
    BundleIntegrityError
        Files have changed.
    """
    recipe = recipe_of_bundle(bundle)
    network = make_network(recipe.network).eval()
    if WEIGHTS in bundle.about["files"]:
        kept = safetensors.torch.load(bundle.content(WEIGHTS))
        network.load_state_dict(
            {k: v.float() if v.dtype.is_floating_point else v for k, v in kept.items()}
        )
    elif isinstance(network, CompactUNet):
        _put_back(network, _convolutions(bundle), bundle)
        _renormalise(network, batches)
    else:
        raise BundleFormatError(
            "the weights of this kind of network cannot be read back from its graph",
            where=bundle.folder,
            fix=_FIX,
        )
    _check_golden(network, bundle)
    return Checkpoint({}, network.state_dict(), {}, _about(bundle, recipe))


def _about(bundle: Bundle, recipe: Recipe) -> dict[str, Any]:
    """What the training was, as its checkpoint would say."""
    training = bundle.about["training"]

    def listed(key: str) -> list[str]:
        sources = training.get(key) or {}
        return [f"{source}/{name}" for source, names in sources.items() for name in names]

    earlier = training.get("begun_from")
    return {
        "step": training.get("steps"),
        "seconds": training.get("seconds"),
        "recipe": recipe.as_dict(),
        "images": {"train": listed("trained_on"), "validation": listed("validated_on")},
        "scores": training.get("validation") or {},
        "notes": f"read back from the model {bundle.name}, {bundle.sha256}",
    } | ({"begun_from": earlier} if earlier else {})


def _convolutions(bundle: Bundle) -> list[Pair]:
    """Weight and bias of each convolution of the float graph, in the order of the computation."""
    model = core().read_model(*bundle.graph("float"))
    found: list[Pair] = []
    for node in model.get_ordered_ops():
        if node.get_type_name() not in ("Convolution", "ConvolutionBackpropData"):
            continue
        weight = _constant(node.input_value(1).get_node())
        biases = [
            value
            for target in node.output(0).get_target_inputs()
            if target.get_node().get_type_name() == "Add"
            for port in target.get_node().inputs()
            if (value := _constant(port.get_source_output().get_node())) is not None
        ]
        if weight is None or len(biases) != 1:
            raise BundleFormatError(
                "a convolution without constants", where=bundle.folder, fix=_FIX
            )
        found.append((weight, biases[0].reshape(-1)))
    return found


def _constant(node: Any) -> NDArray[np.float32] | None:
    if node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant":
        return None
    value: NDArray[np.float32] = np.array(node.data, dtype=np.float32)
    return value


def _in_order(network: CompactUNet) -> list[tuple[nn.Module, nn.BatchNorm2d | None]]:
    """Convolutions as the network computes them, each with the normalisation after it."""
    order: list[tuple[nn.Module, nn.BatchNorm2d | None]] = []

    def stage(layers: Any) -> None:
        for index, layer in enumerate(layers):
            if isinstance(layer, nn.Conv2d):
                order.append((layer, layers[index + 1]))

    for layers in network.down:
        stage(layers)
    for grow, layers in zip(network.grow, network.up, strict=True):
        order.append((grow, None))
        stage(layers)
    return [*order, (network.head, None)]


@torch.no_grad()
def _put_back(network: CompactUNet, pairs: list[Pair], bundle: Bundle) -> None:
    """Set weights and biases; a normalisation becomes the bias that it was folded into."""
    order = _in_order(network)
    if len(order) != len(pairs):
        raise BundleFormatError(
            "the graph is not of the recipe's network",
            where=bundle.folder,
            seen=f"{len(pairs)} convolutions instead of {len(order)}",
            fix=_FIX,
        )
    for (module, norm), (weight, bias) in zip(order, pairs, strict=True):
        ours: Any = module.weight
        theirs: Any = module.bias if norm is None else norm.bias
        if tuple(ours.shape) != weight.shape or tuple(theirs.shape) != bias.shape:
            raise BundleFormatError(
                "the graph is not of the recipe's network",
                where=bundle.folder,
                seen=f"weights {weight.shape} instead of {tuple(ours.shape)}",
                fix=_FIX,
            )
        ours.copy_(torch.from_numpy(weight))
        theirs.copy_(torch.from_numpy(bias))
        if norm is not None:
            _only_adds(norm)


def _only_adds(norm: nn.BatchNorm2d) -> None:
    """Let a normalisation only add its bias, in evaluation mode."""
    if norm.running_mean is not None and norm.running_var is not None:
        norm.running_mean.zero_()
        norm.running_var.fill_(1 - norm.eps)
        norm.weight.fill_(1.0)


@torch.no_grad()
def _renormalise(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set each normalisation to the statistics of what it sees, leaving the network's results as they are."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    sums: dict[nn.Module, list[Tensor]] = {norm: [] for norm in norms}

    def look(norm: nn.Module, given: tuple[Tensor, ...]) -> None:
        variance, mean = torch.var_mean(given[0].double(), dim=(0, 2, 3), correction=0)
        sums[norm].append(torch.stack((mean, variance + mean**2)))

    hooks = [norm.register_forward_pre_hook(look) for norm in norms]
    for batch in batches:
        network(batch)
    for hook in hooks:
        hook.remove()
    for norm in norms:
        if not sums[norm] or norm.running_mean is None or norm.running_var is None:
            continue
        mean, square = torch.stack(sums[norm]).mean(dim=0)
        variance = (square - mean**2).clamp_min(0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.add_(mean)


def _check_golden(network: nn.Module, bundle: Bundle) -> None:
    with np.load(
        io.BytesIO(bundle.content(str(bundle.about["golden"]))), allow_pickle=False
    ) as kept:
        tile, expected = kept["tile"], kept["logits"]
    off = float(np.abs(TorchBackend(network).logits(tile) - expected).max() / np.ptp(expected))
    if not off <= _TOLERANCE:
        raise BundleFormatError(
            "the network that was read back does not give the golden run",
            where=bundle.folder,
            seen=f"off by {off:.3g} of the range",
            fix=_FIX,
        )
