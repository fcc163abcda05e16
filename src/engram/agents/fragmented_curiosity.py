"""Curiosity in fragments: a module for each region of experience, recalled when the region is recognised."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from engram import checks
from engram.agents.curiosity import Curiosity, check_rollout
from engram.agents.rnd import check_errors
from engram.memory.fragments import LongTermStore, SurprisalMonitor
from engram.state import check_state


class FragmentEvent(NamedTuple):
    """An event of an environment in a rollout.

    Attributes:
        kind: Whether a new fragment began, or an old one was recalled.
        call: Index of the call of ``bonus``, from 0.
        step: Step of the rollout.
        env: Index of the environment.
        source: The fragment that the environment left.
        target: The fragment that it entered.
    """

    kind: Literal["fragment", "recall"]
    call: int
    step: int
    env: int
    source: int
    target: int


class Fragment:
    """A curiosity module, and the monitor of its errors."""

    def __init__(self, module: Curiosity, monitor: SurprisalMonitor) -> None:
        self.module, self.monitor = module, monitor

    def state_dict(self) -> dict[str, Any]:
        """The states of the module and of the monitor."""
        return {"module": self.module.state_dict(), "monitor": self.monitor.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state of ``state_dict``; raises if it has another form."""
        check_state(state, {"module": Mapping, "monitor": Mapping})
        self.module.load_state_dict(state["module"])
        self.monitor.load_state_dict(state["monitor"])


def published_monitor() -> SurprisalMonitor:
    """The monitor with the published settings: an error ten times the mean error of its fragment is a surprise."""
    return SurprisalMonitor(
        "ratio", 10.0, min_samples=25, append_on_trigger=False, reset_on_trigger=False, skip_repeats=True
    )


class FragmentedCuriosity:
    """Several curiosity modules, each used and trained only in its own fragment of experience.

    After the bonus of a rollout is computed, each environment's steps are scanned up to the first event. A step whose
    key is similar enough to a stored one recalls the fragment of that key. A step whose error is surprising for its
    fragment, and whose key is not similar to a stored one, begins a new fragment and is stored as its key; from the
    next rollout on, the environment is in that fragment. The bonus of the whole rollout comes from the fragments in
    which the environments began it, and ``update`` trains those in which they end it.

    Two defects of the released code are avoided. There, modules made after the first are never given to the optimiser,
    and never learn; here each owns an optimiser. There, keys are the random features of the current module, which are
    never similar to those of another module, so that a fragment can be recalled only from the fragment in which it
    began; here one frozen encoder makes all keys (``author_keys=True`` does as released).

    Args:
        make_module: Makes a curiosity module for ``num_envs`` environments, such as ``RND``; another is made for the
            ``features`` that serve as keys.
        num_envs: Number of environments.
        make_monitor: Makes the monitor of a fragment's errors, over all environments in it; None: the published one,
            which forgets nothing. Since early errors are large, use a smaller threshold, such as 3, for short runs.
        capacity: Maximum number of fragments; beyond it, the least recently used fragment without an environment is
            dropped. Warns if so many, with gradients and Adam's two moments, would need more than the free memory.
        recall_threshold: Cosine at and above which a key recalls its fragment; None: never.
        novelty: Cosine below which a key is new, at first and at last; it falls by
            (modules - 1) (first - last) / capacity at each call, as published.
        bidirectional: Also store the last key of the fragment that is left, so that it leads back there.
        normalised_surprisal: Monitor the rewards in place of the errors, as the released code does.
        author_keys: Use the features of the current module as keys, as the released code does.
        shared_target: Use the network that makes the keys as the ``target`` of all modules, instead of one target each.
        recompute_after_event: Take the reward of the rest of a rollout from the fragment that an event led to; as
            published, all of it comes from the fragment in which the rollout began.
        burn_in: Calls of ``bonus`` after a new fragment during which its environment is not scanned.
        key_encoder: Function from observations to keys; None: the ``features`` of a separate module.

    Attributes:
        current: The id of each environment's fragment, (num_envs,).
        store: The fragments by id, and their keys.
        events: All events so far.
        errors: The errors behind the last bonus, (time, num_envs); None before the first.

    Source: Hwang et al., "Neuro-inspired fragmentation and recall to overcome catastrophic forgetting in curiosity"
    (2023).

    Examples:
        >>> from engram.agents import RND
        >>> generator = torch.Generator().manual_seed(0)
        >>> make = lambda: RND((3,), hidden=16, feature_dim=8, running=False, generator=generator)
        >>> curiosity = FragmentedCuriosity(make)
        >>> here, there, done = torch.zeros(40, 1, 3), torch.ones(40, 1, 3), torch.zeros(40, 1, dtype=torch.bool)
        >>> here = here + 0.01 * torch.randn(here.shape, generator=generator)
        >>> for place in (here, there, there, here):
        ...     _ = curiosity.bonus(place, done)
        >>> [(event.kind, event.source, event.target) for event in curiosity.events]
        [('fragment', 0, 1), ('recall', 1, 0)]
    """

    __repr__ = checks.described

    def __init__(
        self,
        make_module: Callable[[], Any],
        num_envs: int = 1,
        *,
        make_monitor: Callable[[], SurprisalMonitor] | None = None,
        capacity: int = 800,
        recall_threshold: float | None = 0.99,
        novelty: tuple[float, float] = (0.75, 0.5),
        bidirectional: bool = False,
        normalised_surprisal: bool = False,
        author_keys: bool = False,
        shared_target: bool = False,
        recompute_after_event: bool = False,
        burn_in: int = 1,
        key_encoder: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        checks.arguments()
        self.num_envs = checks.size("num_envs", num_envs)
        if checks.size("capacity", capacity) == 1:
            warnings.warn("capacity = 1: expected at least 2; nothing will be fragmented", stacklevel=2)
        if recall_threshold is not None:
            checks.number("recall_threshold", recall_threshold, minimum=-1, maximum=1)
        self.novelty = tuple(checks.number("novelty", cosine, minimum=-1, maximum=2) for cosine in novelty)
        self.recall_threshold, self.capacity = recall_threshold, capacity
        self.bidirectional, self.normalised_surprisal = bidirectional, normalised_surprisal
        self.author_keys, self.burn_in = author_keys, checks.size("burn_in", burn_in, minimum=0)
        self.shared_target, self.recompute_after_event = shared_target, recompute_after_event
        self._make_module, self._make_monitor = make_module, make_monitor or published_monitor
        self.store: LongTermStore[Fragment] = LongTermStore("cosine", capacity)
        with checks.noted(make_module=make_module):
            module = make_module()
        if not isinstance(module, Curiosity):
            raise TypeError(f"make_module makes a {type(module).__name__}: expected a Curiosity")
        _warn_of_memory(module, capacity)
        initial_fragment = Fragment(module, self._make_monitor())
        self.key_module = None if key_encoder is not None or author_keys else make_module()
        if shared_target and not hasattr(self.key_module, "target"):
            raise ValueError("shared_target = True: expected modules with a target, no key_encoder and no author_keys")
        self._share_target(initial_fragment)
        self._encode = self.key_module.features if self.key_module is not None else key_encoder
        if getattr(initial_fragment.module, "num_envs", num_envs) != num_envs:
            raise ValueError(f"num_envs = {num_envs}: expected {initial_fragment.module.num_envs}, as make_module has")  # type: ignore[attr-defined]
        self.current = np.full(num_envs, self.store.write(initial_fragment))
        self.obs_shape = tuple(initial_fragment.module.obs_shape)  # type: ignore[attr-defined]
        self.novelty_threshold, self.calls = self.novelty[0], 0
        self.events: list[FragmentEvent] = []
        self.errors: Float[Tensor, "time num_envs"] | None = None
        self._waits = np.zeros(num_envs, dtype=np.int64)
        self._last_keys: Float[np.ndarray, "num_envs features"] | None = None

    def _make(self) -> Fragment:
        return self._share_target(Fragment(self._make_module(), self._make_monitor()))

    def _share_target(self, fragment: Fragment) -> Fragment:
        if self.shared_target:
            fragment.module.target = self.key_module.target  # type: ignore[attr-defined, union-attr]
        return fragment

    def bonus(
        self, next_obs: Shaped[Tensor, "time batch *features"], done: Bool[Tensor, "time batch"]
    ) -> Float[Tensor, "time batch"]:
        """The intrinsic reward of a rollout; afterwards, environments may be in other fragments.

        Args:
            next_obs: Observations after each step, of all environments.
            done: Steps that do not count.

        Raises:
            ValueError: Shapes differ, or an observation is not finite.
            FloatingPointError: An error is not finite; no monitor has seen any of the errors.
        """
        next_obs = check_rollout(next_obs, done, self.obs_shape, self.num_envs)
        error, reward = (torch.zeros(done.shape, device=done.device) for _ in range(2))
        with checks.noted(next_obs=next_obs):
            keys = None if self._encode is None or not len(done) else self._encode(next_obs.flatten(0, 1))
        for fragment in np.unique(self.current):
            envs = np.flatnonzero(self.current == fragment)
            rows = torch.from_numpy(envs)
            obs, ignored = next_obs[:, rows], done[:, rows]
            error[:, rows], reward[:, rows] = self._error_and_reward(int(fragment), obs, ignored, envs)
            if self.author_keys and len(done):
                features = self.store.get(int(fragment)).module.features(obs.flatten(0, 1)).view(*ignored.shape, -1)
                keys = features.new_zeros(*done.shape, features.shape[-1]) if keys is None else keys
                keys[:, rows] = features
        if keys is not None:
            key_rows = keys.reshape(*done.shape, -1).numpy(force=True)
            monitored = (reward if self.normalised_surprisal else error).numpy(force=True)
            n_before = len(self.events)
            self._go_through(key_rows, monitored, ~done.numpy(force=True))
            for event in self.events[n_before:] if self.recompute_after_event else ():
                after_event = slice(event.step, None), slice(event.env, event.env + 1)
                error[after_event], reward[after_event] = self._error_and_reward(
                    event.target, next_obs[after_event], done[after_event], np.array([event.env])
                )
        self.calls += 1
        self.errors = error
        return reward

    def _error_and_reward(
        self, fragment: int, obs: Tensor, ignored: Bool[Tensor, "time batch"], envs: Int[np.ndarray, "batch"]
    ) -> tuple[Float[Tensor, "time batch"], Float[Tensor, "time batch"]]:
        """The errors of a fragment's module on the observations of some environments, and the rewards for them."""
        module = self.store.get(fragment).module
        module.observe(obs[~ignored])
        with torch.no_grad():
            errors = module.error(obs.flatten(0, 1)).view_as(ignored)
        check_errors(errors)
        return errors, module.reward(errors, ignored, envs)

    def _go_through(self, keys: np.ndarray, errors: np.ndarray, valid: np.ndarray) -> None:
        if self._last_keys is None:
            self.store.add_key(keys[0, 0], int(self.current[0]), int(self.current[0]))
        for env in range(self.num_envs):
            if self._waits[env]:
                self._waits[env] -= 1
                continue
            steps = np.flatnonzero(valid[:, env])
            self._scan(env, steps, keys[steps, env], errors[steps, env].astype(np.float64))
        self._last_keys = keys[-1].copy()
        first_novelty, last_novelty = self.novelty
        self.novelty_threshold -= (len(self.store) - 1) * (first_novelty - last_novelty) / self.capacity
        self.novelty_threshold = max(last_novelty, self.novelty_threshold)

    def _scan(self, env: int, steps: Int[np.ndarray, "time"], keys: np.ndarray, errors: np.ndarray) -> None:
        """Scan the steps of an environment up to its first event."""
        source = int(self.current[env])
        monitor, match = self.store.get(source).monitor, self.store.match(keys)
        recalls = np.zeros(len(steps), dtype=bool)
        if self.recall_threshold is not None:
            repeats = errors == np.concatenate([[monitor.previous], errors[:-1]])
            recalls = (match.similarity >= self.recall_threshold) & (match.target != source) & ~repeats
        recall_index = int(recalls.argmax()) if recalls.any() else len(steps)
        novel = (match.similarity < self.novelty_threshold) & keys.any(1)
        if recall_index:
            self.store.touch(source)
        index = 0
        while (offset := monitor.scan(errors[index:recall_index])) is not None:
            index += offset
            if novel[index] and self._room(source):
                self._fragment(env, int(steps[index]), keys, index)
                return
            index += 1
        if recall_index < len(steps):
            self.current[env] = target = int(match.target[recall_index])
            self.store.touch(target)
            self.events.append(FragmentEvent("recall", self.calls, int(steps[recall_index]), env, source, target))

    def _room(self, source: int) -> bool:
        """Whether a fragment can begin without dropping the fragment of an environment."""
        return len(self.store) < self.capacity or not {*self.store.ids} <= {source, *self.current.tolist()}

    def _fragment(self, env: int, step: int, keys: np.ndarray, index: int) -> None:
        source = int(self.current[env])
        target = self.store.write(self._make(), keys[index], source, in_use={source, *self.current.tolist()})
        self.store.connect(source, target)
        last_key = keys[index - 1] if index else None if self._last_keys is None else self._last_keys[env]
        if self.bidirectional and last_key is not None:
            self.store.add_key(last_key, source, target)
        self.current[env], self._waits[env] = target, self.burn_in
        self.events.append(FragmentEvent("fragment", self.calls, step, env, source, target))

    def update(
        self,
        obs: Shaped[Tensor, "time batch *features"],
        valid: Bool[Tensor, "time batch"] | None = None,
        envs: Int[np.ndarray, "batch"] | None = None,
    ) -> float:
        """Take a learning step in each fragment that an environment is in; return the mean loss before it.

        Args:
            obs: Observations of whole rollouts; each environment's are learned by the fragment in which it is now.
            valid: Whether each observation counts; None: all do.
            envs: Indices of the environments in ``obs``; None: all.

        Raises:
            ValueError: ``envs`` is empty, there is no environment of an index, or another number of them in ``obs``.
        """
        checks.arguments()
        if envs is not None and len(envs) and not 0 <= envs.min() <= envs.max() < self.num_envs:
            raise ValueError(f"envs = {envs.tolist()}: expected integers from 0 to {self.num_envs - 1}")
        rows = np.arange(self.num_envs) if envs is None else envs
        if obs.shape[1] != len(rows):
            raise ValueError(
                f"obs.shape = {tuple(obs.shape)}: expected (time, {len(rows)}, ...), an environment for each of envs"
            )
        if not len(rows):
            raise ValueError("envs = []: expected at least one environment")
        losses = []
        for fragment in np.unique(self.current[rows]):
            columns = torch.from_numpy(np.flatnonzero(self.current[rows] == fragment))
            counted = None if valid is None else valid[:, columns].flatten()
            losses.append(self.store.get(int(fragment)).module.update(obs[:, columns].flatten(0, 1), counted))
        return float(np.mean(losses))

    def state_dict(self) -> dict[str, Any]:
        """All fragments with their keys and monitors, and the fragment of every environment."""
        envs = {"current": self.current.copy(), "waits": self._waits.copy(), "calls": self.calls}
        fragments = {"store": self.store.state_dict(), "novelty_threshold": self.novelty_threshold}
        keys = None if self.key_module is None else self.key_module.state_dict()
        last_keys = {"last_keys": None if self._last_keys is None else self._last_keys.copy()}
        return envs | fragments | last_keys | {"key_module": keys, "events": [list(event) for event in self.events]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state of ``state_dict``; raises if it has another form."""
        form = {"current": self.current, "waits": self._waits, "calls": int, "store": dict, "novelty_threshold": float}
        key_form = type(None) if self.key_module is None else Mapping
        check_state(state, form | {"last_keys": object, "key_module": key_form, "events": list})
        for fragment in np.unique(state["current"]).tolist():
            checks.choice("state['current']", fragment, state["store"].get("ids", ()))
        self.store.load_state_dict(state["store"], self._make)
        if self.key_module is not None:
            self.key_module.load_state_dict(state["key_module"])
        self.current, self._waits = np.array(state["current"]), np.array(state["waits"])
        self.calls, self.novelty_threshold = int(state["calls"]), float(state["novelty_threshold"])
        self._last_keys = None if state["last_keys"] is None else np.array(state["last_keys"])
        self.events = [FragmentEvent(*event) for event in state["events"]]


def _warn_of_memory(module: Any, capacity: int) -> None:
    """Warn if ``capacity`` modules like this one would need more than the free memory, where that is known."""
    tensors = [*module.parameters(), *module.buffers()] if isinstance(module, torch.nn.Module) else []
    # With a gradient and two moments, a parameter takes four times its size.
    size = sum(tensor.nbytes * (4 if tensor.requires_grad else 1) for tensor in tensors)
    free = _free_memory(tensors[0].device) if tensors else None
    if free is not None and capacity * size > free:
        need = (
            f"{capacity} modules of {size / 2**20:.3g} MiB each, as they learn, need {capacity * size / 2**30:.3g} GiB"
        )
        warnings.warn(f"capacity = {capacity}: {need}, and {free / 2**30:.3g} GiB are free", stacklevel=3)


def _free_memory(device: torch.device) -> int | None:
    """Free memory of a device in bytes; None where it is not known, as on a CPU without psutil."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    with contextlib.suppress(ModuleNotFoundError):  # psutil comes with the extra lab
        import psutil

        return int(psutil.virtual_memory().available) if device.type == "cpu" else None
    return None
