"""Expander memory: a network of simple neurons with exponentially many stable states that correct their own errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from torch import Tensor, nn

from engram import checks
from engram.memory.expander.bipartite_graph import BipartiteGraph, SolutionSpace, solve
from engram.memory.expander.clusters import given_table, nearest_patterns, parity_table
from engram.memory.expander.flip_dynamics import (
    ORDERS,
    Network,
    distances,
    fill_erased,
    local_patterns,
    nearest_change,
    patterns_seen,
    settle_fast,
)
from engram.memory.splitmix import number, seeds
from engram.storage.saveable import Saveable

POLICIES = ("reject", "allow", "repair")
LARGEST = 20  # maximum r of constraints with explicit hidden neurons, since these are 2^(r-1)
SWEEPS = {"parallel": 100, "wta": 20_000, "glauber": 1000}


class RecallResult(NamedTuple):
    """States after a recall, and how they were reached."""

    x: Tensor  # the states, (batch, nodes), in the encoding of the memory
    converged: Bool[Tensor, " batch"]  # stable and satisfied; it may still be another stored state
    stable: Bool[Tensor, " batch"]  # no node may flip, even if constraints are violated
    satisfied: Bool[Tensor, " batch"]  # no constraint is violated
    oscillating: Bool[Tensor, " batch"]  # ``parallel`` alternates between two states
    flips: Int[Tensor, " batch"]
    distance: Int[Tensor, " batch"]  # number of nodes in which the answer differs from the cue, without erased ones
    iterations: Int[Tensor, " batch"]  # flips of ``max`` and ``random``, sweeps of the other orders
    energy_trace: Float[Tensor, "batch steps"] | None  # before each iteration and after the last, if asked for


class LearnResult(NamedTuple):
    """The result of learning from patterns."""

    x: Tensor  # the patterns, repaired if ``policy`` is ``"repair"``, (batch, nodes)
    recruited: Int[Tensor, " batch"]  # number of clusters that recruited a hidden neuron
    conflicts: Int[Tensor, " batch"]  # number of clusters that permit a pattern one flip away


class ExpanderMemory(Saveable, nn.Module):
    """A bipartite Hopfield network whose clusters of hidden neurons each permit some patterns of a few visible nodes.

    With x in {-1, +1}^N and one hidden neuron s_jp for every pattern p that cluster j permits, the energy is

        E(x, s) = - sum_j sum_p s_jp (p . x_C[j] + theta) + w sum_j sum_{p<q} s_jp s_jq,  theta = r + 1, w = 2 r + 2
        min_s E = - sum_j (r_j + theta_j) + 2 V(x),    V(x) = sum_j distance of x_C[j] from the nearest pattern

    so that in each cluster one neuron wins, and nodes flip if that lowers V. With ``patterns="parity"`` a cluster
    permits the patterns whose product is +1, V counts the violated constraints, and 2^K states satisfy all, with
    K = N - rank: about N (1 - z / r). On an expander with z of at least 5, errors in a fixed share of the nodes are
    corrected at any size. The stored states cannot be chosen; ``AssociativeStore`` attaches content to them.

    Args:
        graph: The nodes of each cluster.
        patterns: Permitted patterns: ``"parity"``; ``"learn"``, none until ``learn`` is called; or local patterns of +1
            and -1 at distances of at least 2, (patterns, r), for all clusters, or a list of one such array for each.
        target_parity: For ``"parity"``, the product that each cluster permits, (constraints,); all +1 if None.
        order: The order in which nodes flip; see ``recall``.
        explicit_hidden: Whether to list the hidden neurons of ``"parity"`` too, up to r = 20: same results, but slower.
        encoding: ``"signs"``: nodes are +1 and -1; ``"bits"``: they are 0 and 1, which stand for +1 and -1.

    Attributes:
        permitted: Mask of the local patterns that have a hidden neuron, (constraints, 2^r); bit k of the column index
            is 1 where node k of the row of ``graph.C`` is -1. It has no rows if hidden neurons are implicit.

    Source: Chaudhuri and Fiete, "Bipartite expander Hopfield networks as self-decoding high-capacity error correcting
    codes" (2019), abstract and public reviews. Their method section could not be read: the form of the energy, the
    dynamics and the learning rule follow Sipser and Spielman, "Expander codes" (1996), or are ours.

    Examples:
        >>> from engram.memory import random_regular
        >>> memory = ExpanderMemory(random_regular(480, 5, 6, seed=0))
        >>> x = memory.encode(torch.arange(memory.message_size)[None] % 2)
        >>> noisy = torch.cat((-x[:, :20], x[:, 20:]), 1)
        >>> torch.equal(memory.recall(noisy, generator=torch.Generator().manual_seed(0)).x, x)
        True
    """

    permitted: Tensor
    target: Tensor
    _wired: Network

    def __init__(
        self,
        graph: BipartiteGraph,
        patterns: str | Sequence[Any] | np.ndarray | Tensor = "parity",
        target_parity: Annotated[Any, ArrayLike] | None = None,
        order: str = "max",
        explicit_hidden: bool = False,
        *,
        encoding: str = "signs",
    ) -> None:
        checks.arguments()
        super().__init__()
        self.graph = checks.instance("graph", graph, BipartiteGraph)
        self.order = checks.choice("order", order, ORDERS)
        self.encoding = checks.choice("encoding", encoding, ("signs", "bits"))
        if isinstance(patterns, str) and patterns not in ("parity", "learn"):
            raise ValueError(f"patterns = {patterns!r}: expected 'parity', 'learn', or local patterns")
        self.patterns = patterns if isinstance(patterns, str) else "given"
        self.explicit_hidden = explicit_hidden or self.patterns != "parity"
        if self.explicit_hidden and graph.C.shape[1] > LARGEST:
            nodes = f"graph has constraints of {graph.C.shape[1]} nodes: expected at most {LARGEST}"
            raise ValueError(f"{nodes} with explicit hidden neurons; 'parity' without them takes any number")
        if target_parity is not None and self.patterns != "parity":
            raise ValueError(f"target_parity is given: expected None, because patterns = {self.patterns!r}")
        with checks.noted(target_parity=target_parity):
            target = np.asarray(np.ones(graph.n_constraints) if target_parity is None else target_parity)
        if target.shape != (graph.n_constraints,) or not np.isin(target, (-1, 1)).all():
            raise ValueError(f"target_parity of shape {target.shape}: expected +1 or -1, ({graph.n_constraints},)")
        odd = (target < 0).astype(np.uint8)
        self.register_buffer("target", torch.from_numpy(odd))
        self.register_buffer("clusters", torch.from_numpy(graph.C.astype(np.int64)))
        permitted = np.zeros((graph.n_constraints, 2 ** graph.C.shape[1]) if self.explicit_hidden else (0, 0), bool)
        if self.explicit_hidden and self.patterns != "learn":
            permitted = parity_table(graph, odd) if self.patterns == "parity" else given_table(graph, patterns)
        self.register_buffer("permitted", torch.from_numpy(permitted))
        self._solutions: SolutionSpace | None = None
        self._refresh()
        self.register_load_state_dict_pre_hook(_require_same_network)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_refresh)  # type: ignore[no-untyped-call]

    @property
    def n_states_log2(self) -> float:
        """The base-2 logarithm of the number of states that satisfy all constraints; for parities only."""
        return float(self.message_size)

    @property
    def message_size(self) -> int:
        """The number of bits in a message, K: N - rank of the parity-check matrix."""
        return len(self._space().free)

    @property
    def n_hidden(self) -> int:
        """The number of hidden neurons, including implicit ones."""
        return sum(self._neurons())

    @property
    def n_weights(self) -> int:
        """The number of binary weights between visible and hidden neurons."""
        return sum(count * r for count, r in zip(self._neurons(), self.graph.constraint_degrees.tolist(), strict=True))

    def _neurons(self) -> list[int]:
        if self.explicit_hidden:
            return [int(count) for count in self.permitted.sum(1)]
        return [2 ** (r - 1) for r in self.graph.constraint_degrees.tolist()]

    def encode(self, bits: Annotated[Tensor, "batch message"]) -> Annotated[Tensor, "batch nodes"]:
        """The stored states of messages, zeros and ones, (batch, K), as int8; parities only."""
        checks.arguments()
        space = self._space()
        if bits.dim() != 2 or bits.shape[1] != len(space.free):
            raise ValueError(f"bits.shape = {tuple(bits.shape)}: expected (batch, {len(space.free)})")
        if not ((bits == 0) | (bits == 1)).all():
            raise ValueError("bits holds other values: expected zeros and ones")
        message = bits.detach().cpu().float()
        # Sums of up to 2^24 ones are exact.
        parity = (message @ torch.from_numpy(space.parity).float().T).long() + torch.from_numpy(space.offset)
        state = torch.empty(len(bits), self._nodes, dtype=torch.uint8)
        state[:, space.free] = message.to(torch.uint8)
        state[:, space.pivots] = (parity & 1).to(torch.uint8)
        return self._decoded(state.to(self.permitted.device), torch.int8)

    def message(self, x: Annotated[Tensor, "batch nodes"]) -> Annotated[Tensor, "batch message"]:
        """The messages of stored states, (batch, K); ValueError if a state violates a constraint."""
        free = self._space().free
        bits, far = self._distances(x)
        violated = far.sum(1)
        if violated.any():
            sample = int(violated.argmax())
            raise ValueError(f"x[{sample}] violates {int(violated[sample])} constraints: expected a stored state")
        return bits[:, torch.from_numpy(free).to(bits.device)]

    def index(self, x: Annotated[Tensor, "batch nodes"]) -> list[int]:
        """The indices of stored states, below 2^K: bit k is bit k of the message."""
        packed = np.packbits(self.message(x).numpy(force=True), axis=1, bitorder="little")
        return [int.from_bytes(row.tobytes(), "little") for row in packed]

    def violated(self, x: Annotated[Tensor, "batch nodes"]) -> Bool[Tensor, "batch constraints"]:
        """The mask of constraints that states violate."""
        return self._distances(x)[1] > 0

    def energy(self, x: Annotated[Tensor, "batch nodes"]) -> Float[Tensor, " batch"]:
        """The energy of states with the hidden neurons settled, min over s of E(x, s)."""
        return self._energy_of(self._distances(x)[1].sum(1))

    def hidden(
        self, x: Annotated[Tensor, "batch nodes"], generator: torch.Generator | None = None
    ) -> Int[Tensor, "batch constraints"]:
        """The winning hidden neuron of each cluster, one of the nearest at random.

        A winner is given as its pattern, a column index of ``permitted``; in a cluster without hidden neurons, it is
        the local pattern. Clusters of more than 62 nodes have patterns that no integer numbers, and raise ValueError.
        """
        bits, net = self._encoded(x)[0], self._network
        local = local_patterns(net, bits)
        cluster = torch.arange(local.shape[1], device=bits.device)
        draw = number(seeds(len(bits), generator, bits.device)[:, None], cluster)
        return patterns_seen(net, bits) ^ nearest_change(net, local, draw)

    def forward(self, x: Annotated[Tensor, "batch nodes"]) -> Annotated[Tensor, "batch nodes"]:
        """The recalled states; ``x + (memory(x) - x).detach()`` gives a straight-through gradient."""
        return self.recall(x).x

    def step(
        self, x: Annotated[Tensor, "batch nodes"], generator: torch.Generator | None = None
    ) -> Annotated[Tensor, "batch nodes"]:
        """The states after one iteration in the memory's order."""
        return self.recall(x, max_iter=1, generator=generator).x

    def recall(
        self,
        x: Annotated[Tensor, "batch nodes"],
        max_iter: int | None = None,
        order: str | None = None,
        generator: torch.Generator | None = None,
        *,
        beta: float = 2.0,
        faults: float = 0.0,
        erasures: bool = False,
        trace: bool = False,
    ) -> RecallResult:
        """Let the network settle from noisy states, thousands at once.

        The excess e_i is the amount by which flipping node i lowers V: for parity 2 u_i - z_i, where u_i of its z_i
        constraints are violated. A node may flip only if e_i > 0, except with ``"glauber"`` and ``faults``:

        - ``"max"``: the node with the largest excess, ties at random; corrects the most errors.
        - ``"random"``: a random node among those that may flip; the asynchronous Hopfield network.
        - ``"parallel"``: all nodes that may flip; the fastest order, and the only order that may oscillate.
        - ``"wta"``: the network with pairwise weights alone. The winner of each cluster, one of the nearest patterns at
          random, votes, and a node follows the majority. Takes hundreds of sweeps.
        - ``"glauber"``: a random node with probability sigmoid(2 beta e_i), until all constraints hold; N make a sweep.

        Args:
            x: Noisy states, (batch, nodes), of any dtype.
            max_iter: Maximum number of iterations. None: for ``max`` and ``random``, in which every flip lowers V,
                until no node may flip; for ``parallel``, ``wta`` and ``glauber`` 100, 20,000 and 1000.
            order: Order of flips; that of the memory if None.
            generator: Source of all choices, which are the same on any device and with any number of threads; torch's
                global one if None.
            beta: Inverse temperature of ``glauber``.
            faults: For ``wta``, the probability that a cluster's winner in a sweep is a random one of its hidden
                neurons. The network then never comes to rest: the recall ends when all constraints hold. It needs
                clusters of at most 53 nodes.
            erasures: Whether zeros (with bits: 0.5) stand for unknown nodes. Each is first set to the value demanded by
                the majority of those of its clusters that have no other unknown node, ties at random.
            trace: Whether to return the energy at each iteration, which is slower.

        Raises:
            ValueError: ``x`` is not a batch of states in the memory's encoding, ``order`` is unknown, a number is out
                of range, ``faults`` are given with another order than ``"wta"``, or a cluster is too large for it.
        """
        checks.arguments()
        order = checks.choice("order", self.order if order is None else order, ORDERS)
        limit = None if max_iter is None else checks.size("max_iter", max_iter, minimum=0)
        checks.number("beta", beta, minimum=0)
        if checks.number("faults", faults, minimum=0, maximum=1) and order != "wta":
            raise ValueError(f"faults = {faults}: expected 0 with order = {order!r}, which has no hidden neurons")
        cue, erased = self._encoded(x, erasures)
        seed = seeds(len(cue), generator, cue.device)
        bits = fill_erased(self._network, cue, erased, seed) if erased is not None else cue
        if limit is None:
            limit = SWEEPS.get(order, self.graph.C.size)  # a flip lowers V by at least 1
        steps = self._nodes if order == "glauber" else 1
        settled = settle_fast(self._network, bits, order, steps * limit, seed, beta=beta, faults=faults, trace=trace)
        has_changed = settled.bits != cue
        if erased is not None:
            has_changed &= ~erased
        return RecallResult(
            self._decoded(settled.bits, x.dtype),
            settled.stable & (settled.violated == 0),
            settled.stable,
            settled.violated == 0,
            settled.oscillating,
            settled.flips,
            has_changed.sum(1),
            -(-settled.iterations // steps),
            None if settled.trace is None else self._energy_of(settled.trace),
        )

    def learn(self, x: Annotated[Tensor, "batch nodes"], policy: str = "reject") -> LearnResult:
        """Learn states one after another: each cluster recruits a hidden neuron for a pattern that is new to it.

            w = x_C[j]                      one-shot Hebb, where no neuron of the cluster has these weights

        States of a parity code on the same graph teach each cluster all of its 2^(r-1) patterns, in about
        2^(r-1) (ln 2^(r-1) + ln M) states, and then all 2^K states of the code are stored.

        Args:
            x: States, (batch, nodes).
            policy: What a cluster does with a pattern that is one flip away from a permitted pattern: ``"reject"`` it;
                ``"allow"`` it, so that the cluster no longer detects that flip; or ``"repair"`` the state, which gets
                the permitted pattern (the lowest of several) before the next cluster sees it.

        Returns:
            The states, repaired if so demanded, and the numbers of recruiting and of conflicting clusters, (batch,).

        Raises:
            ValueError: The memory was not made with ``patterns="learn"``, or an argument does not fit.
        """
        from engram.memory.expander.kernels import graphs

        if self.patterns != "learn":
            raise ValueError(f"patterns = {self.patterns!r}: expected 'learn'")
        checks.choice("policy", policy, POLICIES)
        bits = self._encoded(x)[0].cpu().numpy().copy()
        permitted = self.permitted.numpy(force=True).copy()
        counts, wires = np.zeros((2, len(bits)), np.int64), (self.graph.C, self.graph.constraint_degrees)
        graphs.learn(bits, *wires, permitted, POLICIES.index(policy), *counts)
        self.permitted.copy_(torch.from_numpy(permitted))
        self._refresh()
        states, *totals = (torch.from_numpy(array).to(self.permitted.device) for array in (bits, *counts))
        return LearnResult(self._decoded(states, x.dtype), *totals)

    def coverage(self) -> Float[Tensor, " constraints"]:
        """The number of patterns that each cluster permits, divided by the 2^(r-1) patterns of a parity."""
        full = 2.0 ** (self._network.constraint_degrees - 1)
        return self.permitted.sum(1) / full if self.explicit_hidden else torch.ones_like(full)

    def _content(self) -> dict[str, Any]:
        names = ("patterns", "target", "order", "explicit_hidden", "encoding", "permitted")
        return {"C": self.graph.C.copy(), "n_nodes": self.graph.n_nodes} | {name: getattr(self, name) for name in names}

    @classmethod
    def _from_content(cls, content: dict[str, Any]) -> ExpanderMemory:
        graph, parity = BipartiteGraph(content["C"], content["n_nodes"]), content["patterns"] == "parity"
        target = 1 - 2 * content["target"].long() if parity else None
        options = {name: content[name] for name in ("order", "explicit_hidden", "encoding")}
        memory = cls(graph, "parity" if parity else "learn", target, **options)
        memory.patterns = content["patterns"]
        memory.permitted.copy_(content["permitted"])
        memory._refresh()
        return memory

    @property
    def _nodes(self) -> int:
        return len(self.graph.node_degrees)

    @property
    def _network(self) -> Network:
        device = self.permitted.device
        if self._wired.target.device != device:
            self._wired = Network(*(tensor.to(device) for tensor in self._wired))
        return self._wired

    def _refresh(self) -> None:
        """Recompute the wiring and the distances from the hidden neurons."""
        names = ("A", "slots", "node_degrees", "C", "constraint_degrees")
        wires = [torch.from_numpy(getattr(self.graph, name).astype(np.int64)) for name in names]
        nearest = nearest_patterns(self.permitted, self.graph.C.shape[1])
        self._wired = Network(*(tensor.to(self.permitted.device) for tensor in (*wires, self.target, *nearest)))

    def _space(self) -> SolutionSpace:
        if self.patterns != "parity":
            raise ValueError(f"patterns = {self.patterns!r}: expected 'parity', whose states can be counted")
        if self._solutions is None:
            solutions = solve(self.graph, self.target.numpy(force=True))
            if solutions is None:
                raise ValueError("target_parity: expected products that some state has; these contradict each other")
            self._solutions = solutions
        return self._solutions

    def _distances(self, x: Tensor) -> tuple[Tensor, Int[Tensor, "batch constraints"]]:
        """The states as bits, and the distances d_j."""
        bits = self._encoded(x)[0]
        return bits, distances(self._network, local_patterns(self._network, bits))

    def _energy_of(self, violated: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return (2 * violated - int((2 * self.graph.constraint_degrees + 1).sum())).double()

    def _encoded(self, x: Tensor, erasures: bool = False) -> tuple[Tensor, Tensor | None]:
        """The states as bits, 1 where a node is -1, and the mask of unknown nodes, None without ``erasures``."""
        checks.instance("x", x, Tensor)
        if x.dim() != 2 or x.shape[1] != self._nodes or not len(x):
            raise ValueError(f"x.shape = {tuple(x.shape)}: expected (batch, {self._nodes}), a batch of at least 1")
        x = x.detach()
        up, down, unknown = (1, -1, 0) if self.encoding == "signs" else (0, 1, 0.5)
        bits = x == down
        erased = x == unknown if erasures else None
        valid = bits | (x == up) | (False if erased is None else erased)
        if not valid.all():
            sample, node = (~valid).nonzero()[0].tolist()
            also = f" or, for an unknown node, {unknown}" if erasures else ""
            raise ValueError(f"x[{sample}, {node}] = {x[sample, node].item()}: expected {up} or {down}{also}")
        return bits.to(torch.uint8), erased

    def _decoded(self, bits: Tensor, dtype: torch.dtype) -> Tensor:
        return bits.to(dtype) if self.encoding == "bits" else 1 - 2 * bits.to(dtype)

    def extra_repr(self) -> str:
        """The arguments as ``repr`` shows them."""
        return (
            f"{self._nodes} nodes, {self.graph.n_constraints} constraints, patterns={self.patterns!r}, "
            f"order={self.order!r}, encoding={self.encoding!r}"
        )


def _require_same_network(memory: ExpanderMemory, state: Mapping[str, Any], prefix: str, *_: object) -> None:
    """Raise ValueError if a state is that of another graph or of other parities, which a memory is made with."""
    for name, made_with in (("clusters", "graph"), ("target", "target_parity")):
        loaded, own = state.get(prefix + name), getattr(memory, name)
        if loaded is not None and not torch.equal(loaded.to(own.device), own):
            raise ValueError(f"state_dict[{prefix + name!r}] is of another {made_with}: expected that of this memory")


def _refresh(memory: ExpanderMemory, _: object) -> None:
    memory._refresh()
