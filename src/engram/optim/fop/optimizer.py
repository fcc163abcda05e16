"""First-order preconditioning: a torch optimiser that learns matrices to multiply its steps by."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from engram import checks
from engram.optim.fop.base import adam_directions, adam_gains, sgd_directions, sgd_gains
from engram.optim.fop.functional import STRUCTURES, apply_preconditioner, block_view, updated_preconditioner
from engram.state import check_state, form_of

CLAMP_EVERY, MAXIMUM_CLAMPED = 10, 64  # steps; rows of a matrix, since the eigenvalues of a larger one cost too much
MAXIMUM_PLACES = 64  # positions of a tensor that "auto" treats as a convolution kernel
OWN_PRECISION = ("M", "lr_prev", "gain_prev")  # torch would cast these to the parameter's
OF_BASE: dict[str, dict[str, Any]] = {  # the options that only some bases have, with their defaults
    "sgd": {"momentum": 0.0, "dampening": 0.0, "nesterov": False},
    "adam": {"betas": (0.9, 0.999), "eps": 1e-8},
}
OF_BASE["adamw"] = OF_BASE["adam"]


class FOP(Optimizer):
    """SGD, Adam or AdamW whose steps are multiplied by matrices that are learned from the gradients.

        theta <- theta - lr P z,   P = M M^T,   M <- M + rho (g z^T + z g^T) M / (|g| |z|)

    z is the step of the base optimiser, as a matrix with a row for each direction that P mixes, and g the gradient at
    the point that the step reached: where g points along z, the step should have been longer. P starts as the identity,
    so that the first step is that of the base optimiser. Only consecutive gradients are needed.

    To freeze P, set ``rho`` of the group to 0. For steps that can be differentiated through, use ``hypergradient`` and
    ``apply_preconditioner``.

    Args:
        params: Parameters, or groups of them (see ``auto_groups``), which may have their own options, except ``base``.
        lr: Learning rate, at least 0; a scheduler may change it.
        base: ``"sgd"``, ``"adam"``, or ``"adamw"`` (weights decay outside P). Groups have the options of their base
            alone, so that a scheduler changes those that count.
        momentum: Momentum of SGD; as all options of one base, it must keep its default with another.
        dampening: Dampening of SGD's momentum.
        nesterov: Whether SGD uses Nesterov momentum.
        betas: Decay rates of Adam's two averages.
        eps: Added to Adam's denominator.
        weight_decay: Weight decay of the base optimiser.
        rho: Learning rate of P, at least 0. Below 0.5, a cosine hypergradient cannot make P singular.
        structure: What P mixes. ``"auto"``: ``"spatial"`` for tensors with 2 to 64 positions along their third and
            later axes, else ``"none"``. ``"spatial"``: the positions of a kernel, one matrix for all pairs of channels.
            ``"left"``: outputs. ``"scalar"``: nothing; P is one number for each tensor, the control that separates a
            learned step size from learned directions. Only it applies to tensors of one axis, such as biases.
        hypergrad_norm: ``"cosine"``: as above. ``"none"``: the plain derivative, with lr in place of 1 / (|g| |z|).
        placement: ``"velocity"``: P multiplies the base optimiser's step. ``"gradient"``: P multiplies the gradient.
        eig_range: Bounds of the eigenvalues of P, the lower above 0 and at most 1, the upper at least 1; enforced every
            10 steps unless M has more than 64 rows or ``rho`` is 0. None: none.
        maximize: Maximise the objective.
        foreach: Update all parameters of a group in a few calls; None: only on CUDA.

    Raises:
        ValueError: An argument is out of range or belongs to another base, or a structure does not fit a tensor.
        RuntimeError: A parameter is complex, or sharded although P needs the whole tensor; or a gradient is sparse.

    Source: Moskovitz et al., "First-order preconditioning via hypergradient descent" (2019); only its
    abstract could be read; the cosine, bounds and placements are ours.

    Examples:
        >>> p = torch.tensor([[1.0], [1.0]], requires_grad=True)
        >>> optimizer = FOP([p], lr=0.1, rho=0.1, structure="left")
        >>> for _ in range(20):
        ...     optimizer.zero_grad()
        ...     (p * torch.tensor([[10.0], [0.1]]) * p).sum().div(2).backward()
        ...     optimizer.step()
        >>> steep, flat = optimizer.preconditioner(p).diagonal().tolist()
        >>> steep < flat
        True
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        *,
        base: str = "sgd",
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        rho: float = 0.03,
        structure: str = "auto",
        hypergrad_norm: str = "cosine",
        placement: str = "velocity",
        eig_range: Sequence[float] | None = (1e-2, 1e2),
        maximize: bool = False,
        foreach: bool | None = None,
    ) -> None:
        checks.arguments()
        options = {key: value for key, value in locals().items() if key not in ("self", "params", "__class__")}
        _check_options(options)  # groups with options of their own would hide a wrong default
        for key in _of_others(base):
            del options[key]
        with checks.noted(params=params):
            super().__init__(params, options)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters with its own options; raise the errors of the constructor."""
        super().add_param_group(param_group)
        group, base = self.param_groups[-1], self.defaults["base"]
        try:
            if group["base"] != base:  # a scheduler would look for options of the first base in all groups
                raise ValueError(f"base = {group['base']!r}: expected {base!r}, as the other groups have")
            _check_options(group)
            for key in _of_others(base):
                group.pop(key, None)
            for p in group["params"]:
                _structure_of(p, group)
        except Exception:
            self.param_groups.pop()
            raise

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Call ``closure`` if there is one, take a step, and return the loss of ``closure``."""
        loss = None
        if closure is not None:
            with torch.enable_grad(), checks.noted(closure=closure):
                loss = closure()
        parameters = [p for group in self.param_groups for p in group["params"]]
        for p in parameters:  # all of them, before any moves
            if p.grad is not None and p.grad.is_sparse:
                raise RuntimeError(f"the gradient of a parameter of shape {tuple(p.shape)} is sparse: expected dense")
        if not self.state:
            self._warn_if_alone()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None and p.numel()]
            foreach = all(p.is_cuda for p in params) if group["foreach"] is None else group["foreach"]
            for batch in [params] if foreach else [[p] for p in params]:
                if batch:
                    self._step(batch, group)
        return loss

    def preconditioner(self, p: Tensor) -> Tensor:
        """The P of a parameter: a (k, k) matrix, or a number.

        Raises:
            ValueError: The parameter does not belong to the optimiser, or has no preconditioner.
        """
        checks.instance("p", p, Tensor)
        group = next((group for group in self.param_groups if any(p is member for member in group["params"])), None)
        if group is None:
            raise ValueError(f"p, of shape {tuple(p.shape)}, is not a parameter of this optimiser")
        structure = _structure_of(p, group)
        if structure is None:
            raise ValueError(f"p, of shape {tuple(p.shape)}, has no preconditioner: structure = {group['structure']!r}")
        with torch.no_grad():
            M = (self.state[p] if p in self.state else _init_state(p, structure))["M"]
            return apply_preconditioner(M, torch.eye(len(M), dtype=M.dtype, device=M.device)) if M.ndim else M.square()

    def reset_trace(self) -> None:
        """Forget the last steps, but not P; to be called after the parameters were changed by anything but ``step``."""
        for state in self.state.values():
            state.pop("z_prev", None)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a ``state_dict``; preconditioners keep their precision, whatever the parameters have."""
        check_state(state_dict, form_of(self), "state_dict")
        for number, group in enumerate(state_dict["param_groups"]):
            if (base := group.get("base")) != self.defaults["base"]:
                name = f"state_dict['param_groups'][{number}]['base']"
                raise ValueError(f"{name} = {base!r}: expected {self.defaults['base']!r}, as this optimiser has")
        with checks.noted(state_dict=state_dict):
            super().load_state_dict(state_dict)
        numbers = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        params = chain.from_iterable(group["params"] for group in self.param_groups)
        for number, p in zip(numbers, params, strict=True):
            stored = state_dict["state"].get(number, {})
            for key in OWN_PRECISION:
                if key in stored:
                    device = stored[key].device if key == "lr_prev" else p.device
                    self.state[p][key] = stored[key].detach().to(device, copy=True)

    def _warn_if_alone(self) -> None:
        """Warn if ``"auto"`` finds nothing to precondition."""
        groups = [group for group in self.param_groups if group["rho"]]
        any_learned = any(_structure_of(p, group) for group in groups for p in group["params"])
        if not any_learned and any(group["structure"] == "auto" for group in groups):
            advice = "'left' learns matrices of dense layers"
            message = f"structure = 'auto' finds no kernel of a convolution: this is the base alone; {advice}"
            warnings.warn(message, stacklevel=4)

    def _step(self, params: list[Tensor], group: dict[str, Any]) -> None:
        """Update the preconditioners of some parameters from their last step, and take the next step."""
        states = [self._state_of(p, group) for p in params]
        lr, adam = float(group["lr"]), group["base"] != "sgd"
        grads = [p.grad for p in params if p.grad is not None]
        if group["maximize"]:
            grads = list(torch._foreach_neg(grads))
        if group["weight_decay"] and group["base"] != "adamw":
            grads = list(torch._foreach_add(grads, params, alpha=group["weight_decay"]))
        elif group["weight_decay"]:
            torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
        for state, g in zip(states, grads, strict=True):
            _update_preconditioner(state, g, group)
        if group["eig_range"] is not None and group["rho"]:
            _clamp([state for state in states if int(state["step"]) % CLAMP_EVERY == 0], *group["eig_range"])
        directions = adam_directions if adam else sgd_directions
        if group["placement"] == "velocity":
            multiplied = directions(grads, states, group)
            updates = [_preconditioned(state, z) for state, z in zip(states, multiplied, strict=True)]
        else:
            multiplied = grads
            entering = [_preconditioned(state, g) for state, g in zip(states, grads, strict=True)]
            updates = directions(entering, states, group)
            gains = adam_gains(entering, states, group) if adam else sgd_gains(states, group)
            for state, gain in zip(states, gains, strict=True):
                state["gain_prev"] = gain
        torch._foreach_add_(params, updates, alpha=-lr)
        for state, z in zip(states, multiplied, strict=True):
            _store_step(state, z, lr, group)

    def _state_of(self, p: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        """The state of a parameter, created at its first gradient, with its step counted."""
        state: dict[str, Any] = self.state[p]
        if not state:
            structure = _structure_of(p, group)
            state["step"] = torch.zeros(())
            state |= _init_state(p, structure) if structure else {}
        state["step"] += 1
        return state


def auto_groups(module: nn.Module, linear: str = "none") -> list[dict[str, Any]]:
    """The parameters of a module as groups for ``FOP``, by the types of its layers.

    Convolution kernels of more than one position have the structure ``"spatial"``, weights of linear layers ``linear``;
    biases, norms, embeddings and all others have none (``"none"``).

    Args:
        module: A module; a shared parameter is in one group only.
        linear: Structure of the weights of linear layers: ``"none"``, ``"left"`` or ``"scalar"``.

    Raises:
        ValueError: ``linear`` is unknown, or the module has no parameters.

    Warns:
        UserWarning: Weights that should be preconditioned are computed from others, or nothing will be preconditioned.

    Examples:
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4, 2))
        >>> [(group["structure"], len(group["params"])) for group in auto_groups(net)]
        [('spatial', 1), ('none', 3)]
    """
    checks.instance("module", module, nn.Module)
    checks.choice("linear", linear, ("none", "left", "scalar"))
    structures: dict[int, str] = {}
    own, computed = {id(parameter) for parameter in module.parameters()}, dict[str, None]()
    for layer in module.modules():
        if isinstance(layer, _ConvNd) and layer.weight[0, 0].numel() > 1:
            structure = "spatial"
        elif isinstance(layer, nn.Linear):
            structure = linear
        else:
            continue
        if id(layer.weight) in own:
            structures[id(layer.weight)] = structure
        elif structure != "none":
            computed[type(layer).__name__] = None
    if computed:
        names = ", ".join(computed)
        warnings.warn(f"weights of {names} are computed from others, as by weight_norm: left alone", stacklevel=2)
    groups: dict[str, list[nn.Parameter]] = {}
    for parameter in module.parameters():
        groups.setdefault(structures.get(id(parameter), "none"), []).append(parameter)
    if not groups:
        raise ValueError(f"module is a {type(module).__name__} without parameters: expected a module with parameters")
    if groups.keys() == {"none"} and not computed and any(isinstance(layer, nn.Linear) for layer in module.modules()):
        advice = "linear = 'left' learns matrices of its linear layers"
        warnings.warn(f"module has no kernels of convolutions: all of it is left alone; {advice}", stacklevel=2)
    order = sorted(groups, key=lambda structure: (structure == "none", structure != "spatial"))
    return [{"params": groups[structure], "structure": structure} for structure in order]


def _of_others(base: str) -> list[str]:
    """The options that only other bases have."""
    return [key for key in OF_BASE["sgd"] | OF_BASE["adam"] if key not in OF_BASE[base]]


def _check_options(group: dict[str, Any]) -> None:
    checks.number("lr", float(group["lr"]) if isinstance(group["lr"], Tensor) else group["lr"], minimum=0)
    base = checks.choice("base", group["base"], tuple(OF_BASE))
    for key in _of_others(base):
        default = (OF_BASE["sgd"] | OF_BASE["adam"])[key]
        if key in group and (tuple(group[key]) if isinstance(group[key], list) else group[key]) != default:
            has = ", ".join(OF_BASE[base])
            raise ValueError(f"{key} = {group[key]!r} with base = {base!r}: expected {default!r}, as it has {has}")
    for name in ("momentum", "dampening", "weight_decay", "eps", "rho"):
        checks.number(name, group.get(name, 0.0), minimum=0)
    for name in ("nesterov", "maximize"):
        checks.instance(name, group.get(name, False), bool)
    checks.choice("foreach", group["foreach"], (None, True, False))
    if group.get("nesterov") and (not group["momentum"] or group["dampening"]):
        settings = f"momentum = {group['momentum']}, dampening = {group['dampening']}"
        raise ValueError(f"nesterov = True with {settings}: expected momentum above 0 and no dampening")
    if "betas" in group:
        _pair("betas", group["betas"])
        for beta in group["betas"]:
            checks.number("betas", beta, minimum=0, below=1)
    checks.choice("structure", group["structure"], ("auto", "none", *STRUCTURES))
    checks.choice("hypergrad_norm", group["hypergrad_norm"], ("cosine", "none"))
    checks.choice("placement", group["placement"], ("velocity", "gradient"))
    if group["eig_range"] is not None:
        _pair("eig_range", group["eig_range"])
        low, high = group["eig_range"]
        checks.number("eig_range", low, above=0, maximum=1)
        checks.number("eig_range", high, minimum=1)


def _pair(name: str, value: Any) -> None:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ValueError(f"{name} = {value!r}: expected a pair of numbers")


def _structure_of(p: Tensor, group: dict[str, Any]) -> str | None:
    """The structure of a parameter's preconditioner, None without one; raise if the group's structure does not fit."""
    if p.is_complex():
        raise RuntimeError(f"a parameter of shape {tuple(p.shape)} is complex: expected real ones")
    structure: str = group["structure"]
    if structure == "auto":
        structure = "spatial" if p.ndim > 2 and 2 <= math.prod(p.shape[2:]) <= MAXIMUM_PLACES else "none"
    if structure == "none" or not p.numel() or (p.ndim < 2 and structure != "scalar"):
        return None
    if hasattr(p, "placements"):
        raise RuntimeError(f"a parameter of shape {tuple(p.shape)} is sharded: expected structure = 'none' for it")
    block_view(p, structure)  # which raises if it has too few axes
    return structure


def _init_state(p: Tensor, structure: str) -> dict[str, Any]:
    """The initial state of a preconditioner, the identity."""
    like: Any = {"dtype": torch.promote_types(p.dtype, torch.float32), "device": p.device}
    M = torch.ones((), **like) if structure == "scalar" else torch.eye(len(block_view(p, structure)[0]), **like)
    return {"structure": STRUCTURES.index(structure), "M": M}  # torch cannot load a state that is a string


def _update_preconditioner(state: dict[str, Any], g: Tensor, group: dict[str, Any]) -> None:
    """Learn from the gradient at the point that the last step reached."""
    if "z_prev" not in state or not group["rho"] or not state["lr_prev"]:
        return
    M, structure = state["M"], STRUCTURES[state["structure"]]
    g, z = (tensor.to(M.dtype) for tensor in (g, state["z_prev"]))
    if group["placement"] == "gradient":
        g = g * state["gain_prev"]
    blocks = block_view(g, structure)[0], block_view(z, structure)[0]
    is_cosine = group["hypergrad_norm"] == "cosine"
    M.copy_(updated_preconditioner(M, *blocks, float(state["lr_prev"]), group["rho"], cosine=is_cosine))


def _preconditioned(state: dict[str, Any], z: Tensor) -> Tensor:
    """P z, or z itself if one of its numbers is not finite, since P would spread it."""
    if "structure" not in state:
        return z
    M = state["M"]
    view, inverse = block_view(z.to(M.dtype), STRUCTURES[state["structure"]])
    product = inverse(apply_preconditioner(M, view)).to(z.dtype)
    is_finite = z.sum(dtype=M.dtype).isfinite()
    if z.is_cpu:
        return product if is_finite else z
    return torch.where(is_finite, product, z)  # without waiting for the device


def _store_step(state: dict[str, Any], z: Tensor, lr: float, group: dict[str, Any]) -> None:
    """Keep a copy of z for the next update of P, if there is one; the base optimiser changes its own z in place."""
    if "structure" not in state or not group["rho"]:
        state.pop("z_prev", None)
        return
    state["lr_prev"] = torch.tensor(lr, dtype=torch.float64)
    if "z_prev" in state:
        state["z_prev"].copy_(z)
    else:
        state["z_prev"] = z.clone()


def _clamp(states: list[dict[str, Any]], low: float, high: float) -> None:
    """Clamp the eigenvalues of preconditioners; matrices of one size are decomposed together."""
    by_size: dict[tuple[Any, ...], list[Tensor]] = {}
    for M in (state["M"] for state in states if "M" in state):
        if M.ndim == 0:
            M.abs_().clamp_(math.sqrt(low), math.sqrt(high))
        elif len(M) <= MAXIMUM_CLAMPED:
            by_size.setdefault((len(M), M.dtype, M.device), []).append(M)
    for factors in by_size.values():
        stacked = torch.stack(factors)
        values, vectors = torch.linalg.eigh(stacked @ stacked.mT)
        roots = vectors * values.clamp(low, high).sqrt()[:, None, :]
        for M, root in zip(factors, roots, strict=True):
            M.copy_(root)
