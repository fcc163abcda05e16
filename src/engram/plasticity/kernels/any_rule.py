"""The common part of the scans for rules with their own coefficients, which no other kernel knows.

A step is, with x = y(t-1), keep = 1 - D and increment = M z,

    r[j]     = u[j] + sum_i (W[j, i] + alpha[j, i] H[j, i]) x[i]
    H'[j, i] = clip(keep[j] H[j, i] + increment[j] x[i])

Forward. Python calls the rule once per step, for keep and increment, as the plain scan does; numba runs the passes over
the traces, which are nearly all of the work.

Backward. Numba goes through all steps in one call. It assumes that the coefficients of a unit depend on the z of that
unit alone, so that all their derivatives can be computed beforehand, in one call with all steps as a batch. The
assumption is checked at the end, when autograd goes through the coefficients of all steps with the gradients that numba
computed: what it finds for z must be what was assumed. If it is not, or if the gradient is to be differentiated again,
the plain scan is differentiated instead.

Which rules. ``can_run`` leaves to the plain scan what does not fit: a modulated rule, one with an ``update`` or a state
of its own, and coefficients that belong to connections, have another precision, vary from call to call (noise,
memory) or carry gradients to other tensors than z and the rule's parameters. To know the last three, a copy of the rule
is called twice with made-up activity, and the graph of what it returns is followed to its leaves. A rule that cannot be
copied, or that holds functions, which a copy would share, is left to the plain scan too.

What is touched. The rule itself is called as often as by the plain scan, with the same activity; what is called beyond
that, beforehand and in the backward pass, is a copy that shares only the parameters, and torch's global generator is
put back.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from engram import checks
from engram.plasticity.alpha import LowRank
from engram.plasticity.kernels import layout, rule_encoding
from engram.plasticity.kernels.layout import array
from engram.plasticity.rule import PlasticityRule
from engram.plasticity.state import TraceState


def can_run(
    drive: Tensor, alpha: Tensor | LowRank | None, rule: PlasticityRule | None, other_tensors: Sequence[Tensor]
) -> bool:
    """Whether a scan of this kind can run these arguments; the plain scan takes all others, and reports their errors.

    Args:
        drive: The first sequence.
        alpha: Plasticity coefficients.
        rule: The plasticity rule.
        other_tensors: All other tensors, the activity of the state first.
    """
    return (
        rule is not None
        and alpha is not None
        and not rule.modulated
        # Other tensors, such as those of ``torch.func.functional_call``, would be gone in the backward pass.
        and all(isinstance(parameter, nn.Parameter) for parameter in rule.parameters())
        # Only the base class's update is known to use the coefficients as above.
        and getattr(rule.update, "__func__", None) is PlasticityRule.update
        and rule.state_type is TraceState
        and not _holds_functions(rule)
        and drive.numel() > 0
        and checks.readable(drive)
        and rule_encoding.unsupported_input(drive) is None
        and rule_encoding.transformed(drive, *other_tensors, alpha, rule) is None
        and has_unit_coefficients(rule, other_tensors[0])
    )


class Recursion:
    """The steps of a rule in a layer, each combined with the matrix product that the next step needs.

    Args:
        weight: Fixed weights W.
        alpha: Plasticity coefficients of connections or of units.
        rule: The plasticity rule.
        hidden: Activity before the first step.
        start: Traces before the first step.
    """

    def __init__(
        self,
        weight: Float[Tensor, "post pre"],
        alpha: Float[Tensor, "..."],
        rule: PlasticityRule,
        hidden: Float[Tensor, "batch pre"],
        start: Float[Tensor, "batch post pre"],
    ) -> None:
        rule.check_step(TraceState(start), hidden, hidden, None)  # z has the shape and dtype of the activity before
        self.hidden = hidden
        self.weight, self.alpha, self.start = array(weight), array(alpha), array(start)
        self.clip = self.weight.dtype.type(rule_encoding.bound_of(rule))
        self.current = torch.empty_like(hidden, requires_grad=False, memory_format=torch.contiguous_format)

    def first(self, external: Any) -> Float[Tensor, "batch post"]:
        """The r of the first step, in memory that the next step reuses."""
        hidden = array(self.hidden)
        return self._run(False, self.start, hidden, hidden, hidden, self.start, external, hidden)

    def advance(
        self, before: Any, pre: Any, keep: Any, increment: Any, after: Any, external: Any, read: Any
    ) -> Float[Tensor, "batch post"]:
        """Apply the rule, and return r of the next step, in memory that the step after it reuses; all are arrays.

        Args:
            before: H.
            pre: x.
            keep: 1 - D.
            increment: M z.
            after: Where H' is written.
            external: u of the next step.
            read: x of the next step.
        """
        return self._run(True, before, keep, increment, pre, after, external, read)

    def _run(self, update: bool, *steps: Any) -> Tensor:
        from engram.plasticity.kernels.cpu_any_rule import step

        *arrays, read = steps
        fixed = update, *arrays, self.weight, self.alpha, read, self.current.numpy(), self.clip
        work, batch = self.start.size, len(self.start)
        if work < layout.WORTH_A_THREAD:
            step(*fixed, self.weight.reshape(-1), 0, batch)  # of the type of a thread's memory: one compilation
        else:
            layout.in_groups(step, work, batch, (1, self.current.dtype), lambda group: fixed)
        return self.current


class StackedCoefficients:
    """The coefficients of all steps, as functions of the postsynaptic activity z and of the rule's parameters.

    Args:
        rule: The plasticity rule.
        post: z.
        keep: 1 - D in the forward pass.
        increment: M z in the forward pass.
        parameters: The rule's parameters.

    Attributes:
        by_post: Derivatives of keep and increment with respect to z, if those of a unit depend on its own z alone.

    Raises:
        RuntimeError: The coefficients have changed since, or depend on other tensors.
    """

    def __init__(
        self,
        rule: PlasticityRule,
        post: Float[Tensor, "time batch post"],
        keep: Float[Tensor, "time batch post"],
        increment: Float[Tensor, "time batch post"],
        parameters: Sequence[Tensor],
    ) -> None:
        self.parameters, size = parameters, post.shape[-1]
        with torch.enable_grad():
            self.post = post.detach().reshape(-1, size).requires_grad_()
            self.coefficients = unit_coefficients(_copied(rule), self.post)
        changed = _differ(torch.stack(self.coefficients), torch.stack((keep, increment)).view(2, -1, size))
        if changed or not _come_from(self.coefficients, [self.post, *parameters]):
            message = f"coefficients of {rule} have changed since the forward pass: expected a function of post"
            raise RuntimeError(f"{message} and of the parameters")
        self.by_post = [
            _pulled_back([part], [torch.ones_like(part)], [self.post])[0].view_as(post) for part in self.coefficients
        ]

    def pull_back(
        self, of_keep: Float[Tensor, "time batch post"], of_increment: Float[Tensor, "time batch post"]
    ) -> list[Tensor] | None:
        """The gradients of the parameters; None if ``by_post`` is incomplete, because units depend on other units.

        Args:
            of_keep: Gradients of keep.
            of_increment: Gradients of increment.
        """
        grads = [of_keep.view_as(self.post), of_increment.view_as(self.post)]
        of_post, *of_parameters = _pulled_back(self.coefficients, grads, [self.post, *self.parameters])
        keep_by_post, increment_by_post = (part.view_as(self.post) for part in self.by_post)
        if _differ(grads[0] * keep_by_post + grads[1] * increment_by_post, of_post):
            return None
        return of_parameters


def with_parameters(
    rule: PlasticityRule, parameters: Sequence[Tensor], run: Callable[[PlasticityRule], tuple[Tensor, ...]]
) -> tuple[Tensor, ...]:
    """What a function returns of a copy of a rule, with tensors in the place of the rule's parameters.

    Args:
        rule: The rule.
        parameters: The tensors, in the order of ``rule.parameters()``.
        run: The function.
    """
    names = (f"rule.{name}" for name, _ in rule.named_parameters())
    return functional_call(_Run(_copied(rule), run), dict(zip(names, parameters, strict=True)), ())  # type: ignore[no-any-return]


class _Run(nn.Module):
    """A function of a rule as a module that contains the rule, since torch replaces the parameters of modules."""

    def __init__(self, rule: PlasticityRule, run: Callable[[PlasticityRule], tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.rule, self.run = rule, run

    def forward(self) -> tuple[Tensor, ...]:
        return self.run(self.rule)


def has_graph(tensors: Sequence[Tensor]) -> bool:
    """Whether autograd will differentiate what is computed from these tensors."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def unit_coefficients(rule: PlasticityRule, post: Float[Tensor, "batch post"]) -> tuple[Tensor, Tensor]:
    """The factor on the trace and the increment of every unit, (batch, post) each."""
    decay, gain, target = rule.coefficients(post, None)
    return (1 - decay).expand(post.shape), (gain * target).expand(post.shape)


def has_unit_coefficients(rule: PlasticityRule, like: Float[Tensor, "batch post"]) -> bool:
    """Whether a rule's coefficients are those of units, and a fixed function of their activity and its parameters."""
    size = like.shape[1]
    post = torch.linspace(-0.9, 0.9, 2 * size, dtype=like.dtype).view(2, size)
    try:
        with torch.random.fork_rng(devices=()):
            own = _copied(rule)
            first = [coefficient.detach() for coefficient in unit_coefficients(own, post)]
            coefficients = unit_coefficients(own, post.requires_grad_(torch.is_grad_enabled()))
    except Exception:  # no copy, coefficients of connections, or an error, which the plain scan then raises
        return False
    if not all(map(torch.equal, coefficients, first)) or any(values.dtype != like.dtype for values in first):
        return False  # noise or memory, or another precision
    return _come_from(coefficients, [post, *rule.parameters()])


def _holds_functions(rule: PlasticityRule) -> bool:
    held = (value for part in rule.modules() for value in vars(part).values() if not isinstance(value, type))
    return any(callable(value) and not isinstance(value, nn.Module) for value in held)


def _copied(rule: PlasticityRule) -> PlasticityRule:
    """A copy of a rule that shares nothing with it but its parameters and functions."""
    return copy.deepcopy(rule, {id(parameter): parameter for parameter in rule.parameters()})


def _come_from(results: Sequence[Tensor], sources: Sequence[Tensor]) -> bool:
    """Whether autograd, from ``results``, would compute gradients of no other tensors than ``sources``."""
    pending: list[Any] = [result.grad_fn or result for result in results if result.requires_grad]
    expected, visited = {id(source) for source in sources}, set()
    while pending:
        node = pending.pop()
        leaf = node if isinstance(node, Tensor) else getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in expected:
            return False
        if leaf is None and node not in visited:
            visited.add(node)
            pending += [next_node for next_node, _ in node.next_functions if next_node is not None]
    return True


def _pulled_back(outputs: Sequence[Tensor], grads: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of inputs, given those of outputs; zero for an input that no output depends on."""
    depending = [k for k, output in enumerate(outputs) if output.requires_grad]
    gradients: dict[int, Tensor | None] = {}
    if depending:
        differentiable = [k for k, tensor in enumerate(inputs) if tensor.requires_grad]
        computed = torch.autograd.grad(
            [outputs[k] for k in depending],
            [inputs[k] for k in differentiable],
            [grads[k] for k in depending],
            retain_graph=True,
            allow_unused=True,
        )
        gradients = dict(zip(differentiable, computed, strict=True))
    return [
        torch.zeros_like(tensor) if (gradient := gradients.get(k)) is None else gradient
        for k, tensor in enumerate(inputs)
    ]


def _differ(values: Tensor, expected: Tensor) -> bool:
    """Whether values differ by more than rounding; False if any is NaN."""
    return bool((values - expected).abs().max() > 1000 * torch.finfo(values.dtype).eps * expected.abs().max())
