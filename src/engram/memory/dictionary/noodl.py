"""NOODL: a dictionary and sparse codes learned from a stream by local updates, both to machine precision."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from numbers import Integral, Real
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.decomposition import sparse_encode
from sklearn.utils import Tags, check_array, check_random_state, gen_batches
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from engram import checks
from engram.memory.dictionary.iht import SOLVERS
from engram.memory.dictionary.matching import relative_error
from engram.memory.dictionary.step import UPDATES, DictionaryStep, encode, noodl_step
from engram.numeric.unit_rows import unit_rows
from engram.state import Axes
from engram.storage.estimator_state import EstimatorState
from engram.storage.saveable import Saveable

Data = Annotated[Any, ArrayLike]  # scikit-learn refuses anything else
FORGET = 0.9  # weight of the old value in a running mean
USES = 4.0  # expected uses of an atom in a batch below which the automatic step becomes smaller
BACKOFFS = 5
DUPLICATE, COHERENT = 0.9, 0.95
COUNT, POSITIVE = Interval(Integral, 1, None, closed="left"), Interval(Real, 0, None, closed="neither")
NOT_NEGATIVE = Interval(Real, 0, None, closed="left")
FEW = 4  # fewer samples say nothing about an atom
TOGETHER, SMALL = 0.7, 0.6


class NOODL(EstimatorState, Saveable, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Learn a dictionary and sparse codes from a stream, exactly where the samples are exactly sparse.

    Each call of ``partial_fit`` takes one step on all samples of its batch:

        x(0)   = H'(A y)                                       H' keeps what is at least coef_min / 2
        x(r+1) = H(x(r) - code_step (A A^T x(r) - A y))        H keeps what is larger than threshold
        g      = mean over samples of sign(x) (A^T x - y)^T
        A'     = rows of A - dict_step g, each divided by its norm

    If samples are A*^T x* with incoherent atoms (nearly orthogonal ones) and few coefficients, none smaller than
    ``coef_min``, and A starts near A*, the errors of A and of x fall geometrically to the precision of the numbers;
    those of a lasso, which shrinks coefficients, do not. If coefficients may be arbitrarily small, as in natural
    images, or if there is noise, nothing is guaranteed. The theory assumes fresh samples in each batch; ``fit`` uses
    the same ones repeatedly.

    Args:
        n_components: Number of atoms; None: that of ``dict_init``, or of features if samples are taken.
        coef_min: Minimum size of the true coefficients, C, in the units of the data; ``"auto"`` is half the median over
            the first batch of the largest correlation of a sample with the initial atoms.
        threshold: Threshold of the iterations; ``"auto"`` is 0.1 C, the published one.
        code_step: Step size of the codes, published as 0.2; ``"auto"``, 1 over the largest eigenvalue of A A^T, never
            diverges.
        code_max_iter: Maximum number of iterations for a code.
        code_tol: Relative change of a code at which plain iterations end.
        solver: ``"iht-ls"``, ``"iht"`` or ``"iht-ls-unpruned"``; see ``iht_encode``.
        dict_step: Step size of the dictionary. ``"auto"`` is 0.5 atoms / (k x) with running means of the support k and
            of the size x of its coefficients, times min(1, u / 4) for u uses of an atom in a batch.
        max_iter: Maximum number of passes of ``fit`` over the samples.
        batch_size: Number of samples in a batch of ``fit``.
        dict_init: Initial atoms, (atoms, features); or ``"samples"``, which None means too.
        shuffle: Whether ``fit`` draws new batches in each pass.
        tol: ``fit`` ends after ``max_no_improvement`` successive steps whose relative change is at most this.
        max_no_improvement: See ``tol``; None: never end before ``max_iter``.
        reinit: Atoms to replace by the samples with the largest residuals: ``"unused"`` atoms, ``"duplicates"`` (those
            with a cosine above 0.9 to another that is used more), ``"both"``, or no atoms if None, as in the theory.
            ``"mixtures"`` replaces duplicates in this way, and atoms that mix true ones, at which uninformed starts get
            stuck, by what their samples have in common.
        reinit_steps: Number of steps between replacements; an atom is unused if no sample has used it since the last
            one.
        scale: ``"batch"`` divides samples by the running mean of their norms, and multiplies codes by it; C and the
            threshold are then relative to samples of norm 1. None takes samples as they are.
        update: ``"noodl"``, ``"arora-biased"`` or ``"arora-unbiased"``; see ``noodl_step``.
        transform_algorithm: ``"noodl"``: codes as in learning; ``"omp"`` or ``"lasso_cd"``: those of scikit-learn's
            ``sparse_encode``, for data whose coefficients are not bounded below.
        transform_n_nonzero_coefs: Number of nonzero coefficients of ``"omp"``, at most that of the atoms; None: a tenth
            of the features, or all atoms if there are fewer.
        transform_alpha: Penalty of ``"lasso_cd"``; 1 if None.
        n_jobs: Number of threads; the results are the same for any number.
        random_state: Seed of the initial dictionary and of the shuffling.
        verbose: Whether ``fit`` prints a line for each pass.
        callback: Called by ``fit`` after each step, with the estimator.

    Attributes:
        components_: Atoms of unit norm, (atoms, features).
        n_steps_, n_iter_: Steps taken; passes of ``fit`` over the samples.
        usage_: Running mean of the share of samples that use an atom, (atoms,).
        magnitude_: Running mean of the size of its coefficient, zeros included, (atoms,).
        change_: Relative change of the dictionary in the last step.
        contraction_: Running mean of the factor by which ``change_`` shrinks per step, as the error does; NaN before
            the second step.
        code_iterations_: Mean number of iterations for a code in the last step.
        coef_min_, threshold_, code_step_, dict_step_, scale_: The values in use.
        n_samples_seen_: Number of samples learned from, repetitions included.
        unused_steps_: Number of steps since an atom was used, (atoms,).
        n_dead_samples_: Number of nonzero samples whose code had no atom.
        n_backoffs_: Number of times the step size was halved because the dictionary would not have stayed finite.
        n_reinit_: Number of atoms that were replaced.

    Raises:
        ValueError: An argument is out of range (in ``fit``), or X is not valid or has another width (in all methods).
        RuntimeError: Codes diverge or the dictionary does not stay finite. The state before the step remains.

    Source: Rambhatla, Li and Haupt, "NOODL: Provable Online Dictionary Learning and Sparse Coding" (2019), algorithm 1.
    Least squares, automatic values, ``reinit``, ``scale`` and the diagnostics are ours.

    Examples:
        >>> from engram.tasks import make_sparse_dictionary_data, perturb_dictionary
        >>> X, A, _ = make_sparse_dictionary_data(3000, n_features=64, n_components=80, n_nonzero=3, random_state=0)
        >>> model = NOODL(80, dict_init=perturb_dictionary(A, random_state=1), max_iter=10, random_state=0).fit(X)
        >>> bool(np.abs(model.components_ - A).max() < 1e-6)
        True
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012
        "n_components": [COUNT, None],
        "coef_min": [POSITIVE, StrOptions({"auto"})],
        "threshold": [NOT_NEGATIVE, StrOptions({"auto"})],
        "code_step": [POSITIVE, StrOptions({"auto"})],
        "code_max_iter": [COUNT],
        "code_tol": [NOT_NEGATIVE],
        "solver": [StrOptions(set(SOLVERS))],
        "dict_step": [POSITIVE, StrOptions({"auto"})],
        "max_iter": [COUNT],
        "batch_size": [COUNT],
        "dict_init": ["array-like", StrOptions({"samples"}), None],
        "shuffle": ["boolean"],
        "tol": [NOT_NEGATIVE],
        "max_no_improvement": [COUNT, None],
        "reinit": [StrOptions({"unused", "duplicates", "both", "mixtures"}), None],
        "reinit_steps": [COUNT],
        "scale": [StrOptions({"batch"}), None],
        "update": [StrOptions(set(UPDATES))],
        "transform_algorithm": [StrOptions({"noodl", "omp", "lasso_cd"})],
        "transform_n_nonzero_coefs": [COUNT, None],
        "transform_alpha": [NOT_NEGATIVE, None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "callback": [callable, None],
    }

    # scikit-learn demands that the constructor accepts anything and that ``fit`` checks it.
    def __init__(
        self,
        n_components: Annotated[Any, int | None] = None,
        *,
        coef_min: Annotated[Any, float | Literal["auto"]] = 1.0,
        threshold: Annotated[Any, float | Literal["auto"]] = "auto",
        code_step: Annotated[Any, float | Literal["auto"]] = "auto",
        code_max_iter: Annotated[Any, int] = 100,
        code_tol: Annotated[Any, float] = 1e-7,
        solver: Annotated[Any, str] = "iht-ls",
        dict_step: Annotated[Any, float | Literal["auto"]] = "auto",
        max_iter: Annotated[Any, int] = 100,
        batch_size: Annotated[Any, int] = 256,
        dict_init: Annotated[Any, ArrayLike | Literal["samples"] | None] = None,
        shuffle: Annotated[Any, bool] = True,
        tol: Annotated[Any, float] = 1e-8,
        max_no_improvement: Annotated[Any, int | None] = 10,
        reinit: Annotated[Any, Literal["unused", "duplicates", "both", "mixtures"] | None] = None,
        reinit_steps: Annotated[Any, int] = 10,
        scale: Annotated[Any, Literal["batch"] | None] = None,
        update: Annotated[Any, str] = "noodl",
        transform_algorithm: Annotated[Any, Literal["noodl", "omp", "lasso_cd"]] = "noodl",
        transform_n_nonzero_coefs: Annotated[Any, int | None] = None,
        transform_alpha: Annotated[Any, float | None] = None,
        n_jobs: Annotated[Any, int | None] = None,
        random_state: Annotated[Any, int | np.random.RandomState | None] = None,
        verbose: Annotated[Any, bool] = False,
        callback: Annotated[Any, Callable[[NOODL], object] | None] = None,
    ) -> None:
        arguments = locals()
        for name in self._parameter_constraints:
            setattr(self, name, arguments[name])

    @property
    def coherence_(self) -> float:
        """The largest absolute cosine between two atoms; 0 if there is only one."""
        check_is_fitted(self)
        return float(cosines(self.components_).max())

    @property
    def mean_support_(self) -> float:
        """The running mean of the number of atoms that a sample uses."""
        check_is_fitted(self)
        return float(self.usage_.sum())

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Data, y: object = None) -> NOODL:
        """Forget everything and learn from samples, (samples, features), in several passes."""
        with checks.restored_on_error(self):
            samples = self._validated(X, reset=True)
            rng = check_random_state(self.random_state)
            self._start(samples, samples[: self.batch_size], rng)
        n_unchanged = 0
        for epoch in range(self.max_iter):
            order = rng.permutation(len(samples)) if self.shuffle else np.arange(len(samples))
            for batch in gen_batches(len(samples), self.batch_size):
                self._step(samples[order[batch]])
                if self.callback is not None:
                    self.callback(self)
                n_unchanged = n_unchanged + 1 if self.change_ <= self.tol else 0
                if n_unchanged == self.max_no_improvement:
                    break
            self.n_iter_ = epoch + 1
            if self.verbose:
                print(f"pass {epoch + 1}: change {self.change_:.2e}, mean support {self.mean_support_:.2f}")  # noqa: T201
            if n_unchanged == self.max_no_improvement:
                break
        return self

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Data, y: object = None) -> NOODL:
        """Take one step on all samples, at least one; the first call makes the dictionary, by default from them."""
        is_first = not hasattr(self, "components_")
        samples = self._validated(X, reset=is_first)
        if is_first:
            self._start(samples, samples, check_random_state(self.random_state))
        self._step(samples.astype(self.components_.dtype, copy=False))
        return self

    def transform(self, X: Data) -> np.ndarray:
        """The codes of samples, (samples, atoms)."""
        check_is_fitted(self)
        samples = self._validated(X, reset=False)
        scale = samples.dtype.type(self.scale_)
        scaled, components = samples / scale, self.components_.astype(samples.dtype, copy=False)
        if self.transform_algorithm == "noodl":
            return np.asarray(encode(scaled, components, self.update, **self._code_settings()).code * scale)
        options = {"algorithm": self.transform_algorithm, "n_nonzero_coefs": self._nonzero(*components.shape)}
        code = sparse_encode(scaled, components, alpha=self.transform_alpha, n_jobs=self.n_jobs, **options)
        return np.asarray(code * scale, samples.dtype)

    def inverse_transform(self, X: Data) -> np.ndarray:
        """The samples reconstructed from codes, code x components, (samples, features)."""
        check_is_fitted(self)
        with checks.noted(X=X):
            code = check_array(checks.as_array(X), dtype=[np.float64, np.float32], input_name="X")
        if code.shape[1] != len(self.components_):
            raise ValueError(f"X.shape = {code.shape}: expected {len(self.components_)} columns, one for each atom")
        return np.asarray(code @ self.components_.astype(code.dtype, copy=False))

    def score(self, X: Data, y: object = None) -> float:
        """Minus the mean squared residual of the samples' codes."""
        samples = self._validated(X, reset=False)
        return -float(((self.inverse_transform(self.transform(samples)) - samples) ** 2).mean())

    def _content(self) -> dict[str, Any]:
        if self.callback is not None:
            raise TypeError(f"callback = {self.callback!r}: expected None, because a function cannot be stored")
        if isinstance(self.random_state, np.random.RandomState):
            raise TypeError("random_state is a RandomState: expected an int or None, which can be stored")
        return super()._content()

    def _form(self, state: dict[str, Any]) -> dict[str, Any]:
        atoms = "atoms"  # as many as at the first batch, also if ``n_components`` was set to another number since
        counts = ("n_samples_seen_", "n_steps_", "n_iter_", "n_dead_samples_", "n_backoffs_", "n_reinit_")
        numbers = ("coef_min_", "threshold_", "scale_", "code_step_", "change_", "contraction_", "code_iterations_")
        return {
            "n_features_in_": int,
            **dict.fromkeys(counts, int),
            **dict.fromkeys(numbers, float | int),
            **dict.fromkeys(("usage_", "magnitude_", "unused_steps_"), Axes((atoms,), np.ndarray)),
            "components_": Axes((atoms, state.get("n_features_in_", "features")), np.ndarray),
            "dict_step_": float | int,
        }

    def _validated(self, X: Data, reset: bool) -> np.ndarray:
        return np.asarray(checks.samples(self, X, dtype=[np.float64, np.float32], order="C", reset=reset))

    def _nonzero(self, atoms: int, features: int) -> int:
        """The number of nonzero coefficients of a code by orthogonal matching pursuit."""
        if self.transform_n_nonzero_coefs is None:
            return min(max(features // 10, 1), atoms)
        if self.transform_algorithm == "omp":
            checks.size("transform_n_nonzero_coefs", self.transform_n_nonzero_coefs, maximum=atoms)
        return int(self.transform_n_nonzero_coefs)

    def _code_settings(self) -> dict[str, Any]:
        steps = {"step": self.code_step, "max_iter": self.code_max_iter, "tol": self.code_tol, "solver": self.solver}
        return {"coef_min": self.coef_min_, "threshold": self.threshold_, "n_jobs": self.n_jobs, **steps}

    def _start(self, samples: np.ndarray, batch: np.ndarray, rng: Any) -> None:
        """Set the state before the first step: the dictionary from all samples, automatic values from a batch."""
        scale = self._scale_with(batch, 0.0, 0)
        components = self._first_dictionary(samples / samples.dtype.type(scale), rng)
        atoms = len(components)
        self._nonzero(*components.shape)
        self.components_ = components
        self.coef_min_ = self.coef_min
        if self.coef_min == "auto":
            largest_correlations = np.abs(batch / samples.dtype.type(scale) @ components.T).max(axis=1)
            self.coef_min_ = (
                float(np.median(largest_correlations)) / 2 or 1.0
            )  # nothing can be learned from zero samples
        self.threshold_ = 0.1 * self.coef_min_ if self.threshold == "auto" else self.threshold
        self.scale_, self.n_samples_seen_ = scale, 0
        self.usage_, self.magnitude_ = np.zeros((2, atoms), components.dtype)
        self.unused_steps_ = np.zeros(atoms, np.int64)
        self.dict_step_, self.code_step_ = 0.0, 0.0
        self.change_, self.contraction_, self.code_iterations_ = np.nan, np.nan, 0.0
        self.n_steps_ = self.n_iter_ = self.n_dead_samples_ = self.n_backoffs_ = self.n_reinit_ = 0

    def _first_dictionary(self, samples: np.ndarray, rng: Any) -> np.ndarray:
        features = samples.shape[1]
        if self.dict_init is None or isinstance(self.dict_init, str):
            atoms = features if self.n_components is None else self.n_components
            return from_samples(samples, atoms, rng)
        atoms = check_array(checks.as_array(self.dict_init), dtype=samples.dtype, order="C", input_name="dict_init")
        n_atoms = len(atoms) if self.n_components is None else self.n_components
        if atoms.shape != (n_atoms, features):
            raise ValueError(f"dict_init.shape = {atoms.shape}: expected {(n_atoms, features)}, (atoms, features)")
        empty = np.flatnonzero(~atoms.any(axis=1))
        if empty.size:
            raise ValueError(f"dict_init[{empty[0]}] is zero: expected atoms that have a direction")
        components = unit_rows(atoms)
        atom_cosines = cosines(components)
        if atom_cosines.max() > COHERENT:
            atom, other_atom = np.unravel_index(atom_cosines.argmax(), atom_cosines.shape)
            pair = f"dict_init[{atom}] and dict_init[{other_atom}] have a cosine of {atom_cosines.max():.3f}"
            warnings.warn(f"{pair}: atoms so alike share their samples and stay alike", RuntimeWarning, stacklevel=6)
        return components

    def _scale_with(self, samples: np.ndarray, scale: float, n_samples_seen: int) -> float:
        """The mean norm of all samples so far, or 1 if samples are taken as they are."""
        if self.scale is None:
            return 1.0
        norm = float(np.linalg.norm(samples, axis=1).mean(dtype=np.float64))
        return (n_samples_seen * scale + len(samples) * norm) / (n_samples_seen + len(samples)) or 1.0

    def _step(self, samples: np.ndarray) -> None:
        """Take one step; nothing is changed if it fails."""
        scale = self._scale_with(samples, self.scale_, self.n_samples_seen_)
        scaled, old_dictionary, backoffs = samples / samples.dtype.type(scale), self.components_, self.n_backoffs_
        usage, magnitude, size, used = self.usage_, self.magnitude_, self.dict_step_, self.usage_ > 0

        def step_size(code: np.ndarray) -> float:
            nonlocal usage, magnitude, size, used
            active = code != 0
            used = active.any(axis=0)
            forget = old_dictionary.dtype.type(FORGET if self.n_steps_ else 0)
            usage = forget * self.usage_ + (1 - forget) * active.mean(axis=0, dtype=old_dictionary.dtype)
            magnitude = forget * self.magnitude_ + (1 - forget) * np.abs(code).mean(axis=0, dtype=old_dictionary.dtype)
            size = self._step_size(usage, magnitude, len(code)) * 0.5**backoffs
            return size

        while True:
            step = noodl_step(old_dictionary, scaled, dict_step=step_size, update=self.update, **self._code_settings())
            if np.isfinite(step.dictionary).all():
                break
            backoffs += 1
            if backoffs > BACKOFFS:
                reason = f"the dictionary does not stay finite, even with the step halved {BACKOFFS} times"
                raise RuntimeError(f"dict_step = {self.dict_step!r}: {reason}; take a smaller one, or larger batches")
        new_dictionary = step.dictionary
        self._warn_of(old_dictionary, new_dictionary, used, step.code)
        self.scale_, self.n_samples_seen_ = scale, self.n_samples_seen_ + len(samples)
        self.usage_, self.magnitude_, self.dict_step_, self.n_backoffs_ = usage, magnitude, size, backoffs
        self.code_step_, self.code_iterations_ = step.code_step, float(step.iterations.mean())
        self.n_dead_samples_ += int((scaled.any(axis=1) & ~step.code.any(axis=1)).sum())
        self.n_steps_ += 1
        self.unused_steps_ = np.where(used, 0, self.unused_steps_ + 1)
        if self.reinit is not None and self.n_steps_ % self.reinit_steps == 0:
            new_dictionary = self._reinit(new_dictionary, scaled, step)
        old_change, self.change_ = self.change_, relative_error(new_dictionary, old_dictionary)
        self.components_ = new_dictionary
        if old_change > 0 and self.change_ > 0:
            ratio = np.log(self.change_ / old_change)
            mean = ratio if np.isnan(self.contraction_) else FORGET * np.log(self.contraction_) + (1 - FORGET) * ratio
            self.contraction_ = float(np.exp(mean))

    def _step_size(self, usage: np.ndarray, magnitude: np.ndarray, samples: int) -> float:
        """The step size of the dictionary."""
        if not isinstance(self.dict_step, str):
            return float(self.dict_step)
        atoms, total = len(usage), float(magnitude.sum())
        if total == 0:
            return 0.0
        return 0.5 * atoms / total * min(1.0, samples * float(usage.sum()) / atoms / USES)

    def _reinit(self, components: np.ndarray, samples: np.ndarray, step: DictionaryStep) -> np.ndarray:
        """The dictionary with mixtures repaired and useless atoms replaced by the worst reconstructed samples."""
        components = components.copy()
        if self.reinit == "mixtures":
            mixed = mixtures(step.code, self.coef_min_)
            components[mixed] = in_common(samples, step.code[:, mixed])
            self.n_reinit_ += int(mixed.sum())
        useless = (self.unused_steps_ >= self.reinit_steps) & (self.reinit in ("unused", "both"))
        if self.reinit != "unused":
            for atom, other_atom in np.argwhere(np.triu(cosines(components)) > DUPLICATE):
                if not (useless[atom] or useless[other_atom]):
                    useless[other_atom if self.usage_[other_atom] <= self.usage_[atom] else atom] = True
        worst_samples = np.argsort(-np.linalg.norm(step.residual, axis=1), kind="stable")
        worst_samples = worst_samples[samples[worst_samples].any(axis=1)]
        replaced = np.flatnonzero(useless)[: len(worst_samples)]
        components[replaced] = unit_rows(samples[worst_samples[: len(replaced)]]) if len(replaced) else 0
        self.usage_[replaced], self.magnitude_[replaced] = self.usage_.mean(), self.magnitude_.mean()
        self.unused_steps_[replaced] = 0
        self.n_reinit_ += len(replaced)
        return components

    def _warn_of(
        self, old_dictionary: np.ndarray, new_dictionary: np.ndarray, was_used: np.ndarray, code: np.ndarray
    ) -> None:
        if not was_used.any() and not self.n_dead_samples_:
            why = f"coef_min = {self.coef_min_:g}: no sample has a correlation of half of it with any atom"
            advice = f"{why}, so that nothing is learned; lower coef_min, or take coef_min='auto'"
            warnings.warn(advice, RuntimeWarning, stacklevel=6)
        turned = (old_dictionary[was_used] * new_dictionary[was_used]).sum(axis=1) < 0
        if was_used.any() and turned.mean() > 0.1:
            advice = f"{turned.mean():.0%} of the atoms in use turned by more than a right angle in one step"
            warnings.warn(f"dict_step = {self.dict_step!r}: {advice}; take a smaller one", RuntimeWarning, stacklevel=6)

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)

    def __sklearn_tags__(self) -> Tags:
        """scikit-learn's tags: the dtype is preserved."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def cosines(atoms: np.ndarray) -> np.ndarray:
    """The absolute cosines of all pairs of atoms of unit norm, with zeros on the diagonal."""
    values: np.ndarray = np.abs(atoms @ atoms.T)
    np.fill_diagonal(values, 0)
    return values


def from_samples(X: Float[np.ndarray, "samples features"], atoms: int, rng: Any) -> Float[np.ndarray, "atoms features"]:
    """Random samples scaled to unit norm, without repeated or zero ones; random directions if there are too few.

    Args:
        X: Samples in rows.
        atoms: Number of atoms to return.
        rng: Source of the choice.
    """
    candidates = rng.permutation(np.flatnonzero(X.any(axis=1)))[: 10 * atoms]
    _, first_rows = np.unique(X[candidates], axis=0, return_index=True)
    sampled = unit_rows(X[candidates[np.sort(first_rows)[:atoms]]])
    random_directions = rng.standard_normal((atoms - len(sampled), X.shape[1])).astype(X.dtype)
    return np.concatenate((sampled, unit_rows(random_directions))) if len(random_directions) else sampled


def mixtures(code: Float[np.ndarray, "samples atoms"], coef_min: float) -> Bool[np.ndarray, " atoms"]:
    """A mask of the atoms that cannot be true ones.

    True coefficients are at least ``coef_min`` in size, and true atoms occur independently. An atom is therefore
    false if more than 0.7 of its samples also use another atom that is used at least as often: both represent one true
    atom. It is also false if its mean absolute coefficient is below 0.6 ``coef_min``: it only corrects the errors of
    others.
    """
    is_active = (code != 0).astype(code.dtype)
    uses = is_active.sum(axis=0)
    divisor = np.maximum(uses, 1)
    shared = is_active.T @ is_active
    np.fill_diagonal(shared, 0)
    shared[uses[:, None] > uses] = 0
    is_false = (shared.max(axis=1) > TOGETHER * divisor) | (np.abs(code).sum(axis=0) < SMALL * coef_min * divisor)
    return np.asarray(is_false & (uses >= FEW))


def in_common(
    X: Float[np.ndarray, "samples features"], code: Float[np.ndarray, "samples some_atoms"]
) -> Float[np.ndarray, "some_atoms features"]:
    """The mean of the samples that use an atom, each times its coefficient, scaled to unit norm.

    Components that occur by chance have random signs and cancel; the true atom behind the coefficient remains.
    """
    return unit_rows(code.T @ X)
