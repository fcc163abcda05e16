"""Inference of the plasticity rule of a layer from its activity, or of an animal from its choices."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from jaxtyping import Float, Int
from scipy import stats
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from engram import checks
from engram.learned.inference import simulation
from engram.learned.inference.advice_on_rivals import lines_on_rivals
from engram.learned.inference.architecture import Architecture, architecture
from engram.learned.inference.averaging import by_name, rivals_figure, rivals_of
from engram.learned.inference.bootstrap import bootstrap, expanded_intervals, groups_of_sessions
from engram.learned.inference.diagnostics import advice, alike_of
from engram.learned.inference.feed_forward import NONLINEARITIES
from engram.learned.inference.fitting import Data, Fit, constant_log_likelihood, fit_rule, intervals, recorded, whole
from engram.learned.inference.fitting import known as known_weights
from engram.learned.inference.identifiability import curvature, dependent_terms
from engram.learned.inference.likelihood_ratio import Lead, lead, log_likelihoods
from engram.learned.inference.losses import Bernoulli
from engram.learned.inference.misfit import advice_on_misfit, bent, is_misfit
from engram.learned.inference.model import Model, has_terms, run_sessions
from engram.learned.inference.profile_likelihood import EqualRule, farthest_equal_rule
from engram.learned.inference.search import CONFIDENCE, LIKE_THE_BEST, Search, agreed, scale_of
from engram.learned.inference.selection import Selection, price_of_term, select_again
from engram.learned.inference.series import Part, series_of
from engram.learned.inference.sessions import Sessions, is_list, prepare
from engram.plasticity import PlasticityRule

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

CRITERIA = ("bic", "aic")


class PlasticityRuleInference(BaseEstimator):  # type: ignore[misc]
    """The plasticity rule by which a layer's weights changed, inferred from its activity or from an animal's choices.

        y(t) = f(W(t) x(t)),   W(t + 1) = W(t) + eta sum over terms of theta x^a y^b w^c m^d

    The layer is simulated over whole sessions, and theta maximises the likelihood of what was recorded: activity y with
    Gaussian noise, a variance for each unit, or choices c with P(c = 1) = sigmoid(w x). No weight is observed. A good
    prediction is no evidence for the coefficients, so each comes with an interval and with whether the data determine
    it at all. Intervals assume that the form of the rule, f and eta are right, and that noise is independent.

    Args:
        family: ``"taylor"``: the terms below. A ``PlasticityRule`` with parameters: these are fitted, from their
            values.
        terms: Names of terms, such as ``["x y", "y^2 w"]``; or by name a term or the coefficients of several terms that
            share one theta, such as ``{"Oja": {"x y": 1, "y^2 w": -1}, "decay": "w"}``. None: all terms up to
            ``order`` in x, w, in y unless choices are given, and in m if rewards are.
        order: Largest exponent of each variable where ``terms`` is None.
        modulator: Whether m is the reward, or (``"rpe"``) its difference from the mean of the last rewards.
        baseline_window: Number of these, zeros before the first.
        network: ``"layer"``, as above; or ``"recurrent"``: y(t) = f(W(t) y(t - 1) + U x(t)), where in the rule x is the
            activity before the step.
        readout: v of a hidden layer behind choices: P(c = 1) = sigmoid(v y(t)), (unit,); None: w x itself.
        input_weights: U of a recurrent network, (unit, input); None: the inputs are the currents of the units.
        nonlinearity: f: ``"identity"``, ``"sigmoid"``, ``"tanh"`` or ``"relu"``. None: the sigmoid for a layer, tanh
            for a recurrent network or a hidden layer, the identity for choices without one.
        eta: Rate, a constant, since eta and theta are one scale; a rule given as ``family`` has its own.
        initial_weights: W(0): ``"zeros"``; an array (unit, input); ``"shared"``: unknown, but the same in all sessions;
            or ``"session"``: unknown, another in each. With a readout they are known, since it cannot tell them.
        update_at: Whether weights change at every step, or only where the choice is 1 (``"chosen"``), as where an offer
            is accepted.
        select: None: all terms; ``"bic"`` or ``"aic"``: those of the smallest criterion. All sets of terms are ranked
            by a quadratic approximation of the likelihood, around the fit with all terms and then around the best set
            found so far; the best are fitted, until no set within reach of the approximation's error is better.
        n_starts: Number of starts of the search; further ones are random, and tell whether another rule fits as well.
        n_bootstrap: Number of fits to sessions drawn with replacement, 200 or more, whose spread gives ``intervals_``;
            these hold, too, where animals differ or noise is not independent, and select terms again in each draw. 0:
            intervals from the curvature, which hold given the terms.
        max_iter: Largest number of steps of each search.
        tol: A search ends when a step lowers the loss by less than this share.
        random_state: Seed or generator of the further starts and of the draws.

    Attributes:
        coefficients_: theta by the name of each term that was fitted.
        intervals_: (low, high) of each, in which theta lies with 95 % if these are the right terms.
        rivals_: With ``select``, every rule that was fitted within six units of the smallest criterion, the selected
            one first: ``coefficients``, ``intervals``, ``criterion`` and ``weight``.
        averaged_: With ``select``, by term, the ``coefficient`` averaged over rivals, ``low`` and ``high`` of an
            interval that holds whichever of them is right, and the ``weight`` of the rivals with the term.
        identifiable_: Whether the data determine each: by curvature (nearly all of it lies in directions whose
            posterior standard deviation is below the size at which a term changes weights as much as the whole rule),
            and no other start ends in another rule that fits as well.
        equivalent_: Groups of terms that no weights could tell apart at these inputs; only the first of two, or all but
            the last of several, are fitted.
        rule_: The rule, a ``TaylorRule`` or the fitted rule of the family.
        status_: ``"ok"``; ``"weak"``: a coefficient is not identifiable, or is one of an equivalent group;
            ``"ambiguous"``: a rule with other terms is within two units of the criterion; ``"misfit"``: errors resemble
            those of the step before, or depend on the prediction, by more than five standard errors, so that the form
            is wrong; ``"not identified"``: no coefficient is identifiable, there are fewer numbers than coefficients,
            or a constant predicts as well; ``"diverged"``: the search did not end.
        covariance_, directions_, condition_: Of the coefficients, of the directions (best known first, in units of
            their size), and the ratio of the largest to the smallest singular value of the scaled Jacobian.
        weights_: The weights of each session over time, (step + 1, unit, input).
        initial_weights_: W(0), (unit, input), or (session, unit, input) for ``"session"``; NaN where nothing was
            recorded.
        noise_: Standard deviation of the noise of each unit; empty for choices.
        log_likelihood_, n_iter_, n_observed_: Of the fit.
        path_: Terms and criterion of every fit of the selection, from all terms to none; empty without.
        residual_correlation_: Correlation of the errors of successive steps, and the same in standard errors; none for
            a right model.
        nonlinearity_test_: The score test of whether predictions should be bent, and the same in standard errors.
        starts_: Where the search from each further start ended.
        bootstrap_: Coefficients of each draw, (draw, coefficient); zero where a draw does not select the term.
        selected_in_draws_: The share of the draws in which each term was selected.

    Source: Mehta, Tyulmankov, Rajagopalan, Turner, Fitzgerald and Funke, "Model-based inference of synaptic plasticity
    rules" (2024); the optimiser, intervals and tests of identifiability are ours.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> x, W = rng.normal(size=(6, 40, 3)), 0.1 * rng.normal(size=(4, 3))
        >>> recorded = simulation.simulate_activity({"x y": 1.0, "y^2 w": -1.0}, x, W, rng, eta=0.1, noise=0.05)
        >>> inference = PlasticityRuleInference(order=2, eta=0.1, initial_weights=W, select="bic")
        >>> {term: round(theta, 1) for term, theta in inference.fit(x, recorded.activity).coefficients_.items()}
        {'x y': 1.0, 'y^2 w': -1.0}
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012  scikit-learn's name and form
        "family": [StrOptions({"taylor"}), PlasticityRule],
        "terms": [None, "array-like", dict],
        "order": [Interval(Integral, 1, 3, closed="both")],
        "modulator": [StrOptions({"reward", "rpe"})],
        "baseline_window": [Interval(Integral, 1, None, closed="left")],
        "network": [StrOptions({"layer", "recurrent"})],
        "readout": [None, "array-like"],
        "input_weights": [None, "array-like"],
        "nonlinearity": [None, StrOptions(set(NONLINEARITIES))],
        "eta": [Interval(Real, 0, None, closed="neither")],
        "initial_weights": [StrOptions({"zeros", "shared", "session"}), "array-like"],
        "update_at": [StrOptions({"step", "chosen"})],
        "select": [None, StrOptions({*CRITERIA})],
        "n_starts": [Interval(Integral, 1, None, closed="left")],
        "n_bootstrap": [Interval(Integral, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "random_state": [None, Interval(Integral, 0, None, closed="left"), np.random.Generator],
    }

    def __init__(
        self,
        family: Annotated[Any, Literal["taylor"] | PlasticityRule] = "taylor",
        *,
        terms: Annotated[Any, Sequence[str] | Mapping[str, Part] | None] = None,
        order: Annotated[Any, int] = 2,
        modulator: Annotated[Any, Literal["reward", "rpe"]] = "reward",
        baseline_window: Annotated[Any, int] = 10,
        network: Annotated[Any, Literal["layer", "recurrent"]] = "layer",
        readout: Annotated[Any, np.ndarray | None] = None,
        input_weights: Annotated[Any, np.ndarray | None] = None,
        nonlinearity: Annotated[Any, str | None] = None,
        eta: Annotated[Any, float] = 1.0,
        initial_weights: Annotated[Any, str | np.ndarray] = "zeros",
        update_at: Annotated[Any, Literal["step", "chosen"]] = "step",
        select: Annotated[Any, Literal["bic", "aic"] | None] = None,
        n_starts: Annotated[Any, int] = 1,
        n_bootstrap: Annotated[Any, int] = 0,
        max_iter: Annotated[Any, int] = 100,
        tol: Annotated[Any, float] = 1e-9,
        random_state: Annotated[Any, int | np.random.Generator | None] = None,
    ) -> None:
        self.family = family
        self.terms = terms
        self.order = order
        self.modulator = modulator
        self.baseline_window = baseline_window
        self.network = network
        self.readout = readout
        self.input_weights = input_weights
        self.nonlinearity = nonlinearity
        self.eta = eta
        self.initial_weights = initial_weights
        self.update_at = update_at
        self.select = select
        self.n_starts = n_starts
        self.n_bootstrap = n_bootstrap
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        return tags

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(
        self, inputs: Any, activity: Any = None, *, choices: Any = None, rewards: Any = None, groups: Any = None
    ) -> PlasticityRuleInference:
        """Fit the rule to one session or several; exactly one of ``activity`` and ``choices`` is given.

        Args:
            inputs: x: (step, input) for one session; (session, step, input), with rows of NaN after the end of shorter
                ones; or a list of sessions of any lengths. A session may be a list of trials, through which the weights
                persist; trials that start anew are sessions.
            activity: y of the same lengths, with an axis of units, NaN for what was not recorded; for one session of
                one unit that axis may be left out.
            choices: 0, 1 or NaN for none, for each step.
            rewards: r of each step; NaN only where the weights do not change.
            groups: A label of each session, such as the animal: the bootstrap draws all sessions of a label together.

        Raises:
            ValueError: A parameter is out of range, lengths differ, a value is not finite, or nothing was recorded.
        """
        if activity is None and choices is None:
            sklearn_asks = "the estimator requires y to be passed, but the target y is None"
            raise ValueError(f"activity = None, choices = None: expected exactly one of them; {sklearn_asks}")
        if activity is not None and choices is not None:
            raise ValueError("activity and choices are both given: expected exactly one of them")
        with checks.restored_on_error(self):
            self._flat = activity is not None and not is_list(activity) and np.ndim(checks.as_array(activity)) == 1
            sessions = self._sessions(inputs, activity, choices=choices, rewards=rewards, reset=True)
            self.n_features_in_ = sessions.inputs.shape[2]
            self._fit(sessions, rewards is not None, groups_of_sessions(groups, len(sessions.lengths)))
        return self

    def _fit(self, sessions: Sessions, rewarded: bool, groups: Int[np.ndarray, " session"]) -> None:
        self._binary = sessions.activity is None
        given = self.network, self.nonlinearity, self.readout, self.input_weights
        units = 0 if sessions.activity is None else sessions.activity.shape[2]
        self._architecture: Architecture = architecture(*given, inputs=self.n_features_in_, recorded=units)
        if self._architecture.readout is not None and str(self.initial_weights) in {"shared", "session"}:
            raise ValueError(
                f"initial_weights = {self.initial_weights!r}: expected 'zeros' or an array with a readout, which does "
                "not tell the first weights of its units"
            )
        if sessions.activity is not None:
            self._architecture.check_units_of_activity(sessions.activity)
        self._trained, data = sessions, self._recorded(sessions)
        self.n_observed_ = int((~np.isnan(data.observed)).sum())
        model = self._network_with_rule(data, rewarded)
        search = Search(self.max_iter, self.tol)
        fit = search.from_nothing(model, data, recurrent=self.network == "recurrent")
        selection = None
        if self.select is not None:
            assert has_terms(model)
            selection = search.select_terms(model, data, fit, price_of_term(self.select, data))
            model, fit = model.part(selection.best.support), selection.best.fit
        rng = checks.rng("random_state", self.random_state)
        self.starts_ = search.from_elsewhere(model, data, fit, self.n_starts - 1, rng)
        best = max(self.starts_, key=lambda start: start.log_likelihood, default=None)
        if best is not None and best.log_likelihood > fit.log_likelihood + LIKE_THE_BEST:
            fit = search.near(model, data, best.coefficients)
            if selection is not None:
                selection.add(selection.best.support, fit)
        self.path_ = () if selection is None else selection.path
        self._rivals = rivals_of(selection, CONFIDENCE)
        self.rivals_, self.averaged_ = self._rivals.rules, self._rivals.averages
        self._model = model
        self._describe(data, fit)
        self.bootstrap_ = np.zeros((0, len(fit.theta)))
        self.selected_in_draws_: dict[str, float] = {}
        if self.n_bootstrap:
            self._draw_again(data, selection, groups[np.unique(data.session)], rng)

    def _sessions(
        self, inputs: Any, activity: Any = None, *, choices: Any = None, rewards: Any = None, reset: bool = False
    ) -> Sessions:
        """The checked sessions, those of a fit if ``reset``."""
        if not is_list(inputs) and np.ndim(checks.as_array(inputs)) != 3:
            minimum = 2 if reset else 1
            inputs = checks.samples(self, inputs, dtype=np.float64, reset=reset, ensure_min_samples=minimum)
        if activity is not None and self._flat:
            activity = np.asarray(checks.as_array(activity), dtype=float)[:, None]
        return prepare(
            inputs,
            activity,
            choices=choices,
            rewards=rewards,
            chosen_only=self.update_at == "chosen",
            baseline=self.baseline_window if self.modulator == "rpe" else None,
        )

    def _recorded(self, sessions: Sessions, *, known: bool = False) -> Data:
        """What was recorded; if ``known``, first weights are left at zero, to be set."""
        return recorded(sessions, "zeros" if known else self.initial_weights, **self._architecture.options)

    def _network_with_rule(self, data: Data, rewarded: bool) -> Model:
        """The model: all terms that the inputs tell apart, or the rule of the family."""
        self.equivalent_: tuple[tuple[str, ...], ...] = ()
        if isinstance(self.family, PlasticityRule):
            if self.select is not None or self.terms is not None:
                raise ValueError(
                    f"select = {self.select!r}, terms = {self.terms!r}: expected None with a rule as family"
                )
            if self.family.modulated and not rewarded:
                raise ValueError("rewards = None: expected rewards, because the family is modulated")
            return self._architecture.of_rule(self.family)
        series = series_of(self.terms, ("x" if data.binary else "xy") + "w" + "m" * rewarded, self.order)
        if series.uses_signal and not rewarded:
            raise ValueError("rewards = None: expected rewards, because a term contains m")
        model = self._architecture.of_series(series, float(self.eta))
        kept, self.equivalent_ = dependent_terms(model, data.rows)
        return model.part(kept)

    def _describe(self, data: Data, fit: Fit) -> None:
        """Set the attributes that tell what was found."""
        names, spare = self._model.names, data.spare(len(fit.theta))
        known = curvature(fit.information, scale_of(self._model, data, fit))
        self.coefficients_ = dict(zip(names, fit.theta.tolist(), strict=True))
        self.intervals_ = by_name(names, intervals(data, fit, CONFIDENCE))
        determined = known.identified & agreed(self.starts_, fit)
        self.identifiable_ = dict(zip(names, determined.tolist(), strict=True))
        self.covariance_, self.directions_, self.condition_ = fit.covariance, known.directions, known.condition
        sessions = self._trained.inputs.shape[0]
        per_session = isinstance(self.initial_weights, str) and self.initial_weights == "session"
        units, inputs = self._architecture.units, self._architecture.inputs
        self.initial_weights_ = whole(data, fit.initial, units, sessions, per_session)
        if not isinstance(self.initial_weights, str):
            self.initial_weights_ = known_weights(self.initial_weights, units, inputs)
        elif self.initial_weights == "zeros":
            self.initial_weights_ = np.zeros((units, inputs))
        missing = 0 if data.binary else units - len(fit.variance)  # units that were not recorded
        self.noise_ = np.sqrt(np.append(fit.variance, np.full(missing, fit.variance.mean() if missing else 0.0)))
        self.log_likelihood_, self.n_iter_ = fit.log_likelihood, max(fit.iterations, 1)
        self.rule_ = self._model.rule(fit.theta)
        self.residual_correlation_ = alike_of(self._model, data, fit)
        self.nonlinearity_test_ = bent(self._model, data, fit)
        self._data, self._fitted = data, fit
        self.status_ = self._status(data, fit, spare)
        if spare <= 0:
            message = f"{self.n_observed_} numbers were recorded, fewer than the {len(names) + data.nuisances} unknowns"
            warnings.warn(f"{message}: nothing is identified", RuntimeWarning, stacklevel=4)

    def _draw_again(
        self, data: Data, selection: Selection | None, groups: Int[np.ndarray, " session"], rng: np.random.Generator
    ) -> None:
        """Set the draws, and the intervals from them; terms are selected again, and unknown first weights fitted."""
        count, sessions = len(np.unique(groups)), np.unique(data.session)
        if count < 2:
            raise ValueError(
                f"n_bootstrap = {self.n_bootstrap}: expected 0 with one session or group, which cannot vary"
            )
        per_session, fit, names = self.initial_weights_.ndim == 3, self._fitted, self._model.names
        every = names if selection is None else selection.model.names

        def refit(drawn: Int[np.ndarray, " session"]) -> Float[np.ndarray, " part"]:
            again = self._recorded(self._trained.of(sessions[drawn]))
            rows = again.rows
            weights = self.initial_weights_[sessions[drawn]][rows.session] if per_session else self.initial_weights_
            initial = weights[np.arange(len(rows.unit)), rows.unit] if per_session else weights[rows.unit]
            end = fit_rule(
                self._model, again, fit.theta, initial, max_iter=self.max_iter, tol=1e-5, variance=fit.variance
            )
            if selection is None:
                return end.theta
            return select_again(selection, again, end, str(self.select))

        drawn = bootstrap(refit, groups, self.n_bootstrap, rng)
        if selection is not None:
            shares = (drawn != 0).mean(axis=0).tolist()
            self.selected_in_draws_ = {name: share for name, share in zip(every, shares, strict=True) if share}
        self.bootstrap_ = drawn[:, [every.index(name) for name in names]]
        self.intervals_ = by_name(names, expanded_intervals(fit.theta, self.bootstrap_, count, CONFIDENCE))

    def _status(self, data: Data, fit: Fit, spare: int) -> str:
        if spare > 0 and not fit.converged:
            return "diverged"
        needed = stats.chi2.ppf(0.99, max(len(fit.theta), 1)) / 2
        no_better = fit.log_likelihood - constant_log_likelihood(data) < needed
        if spare <= 0 or no_better or not any(self.identifiable_.values()):
            return "not identified"
        if is_misfit(data, fit, self.residual_correlation_, self.nonlinearity_test_):
            return "misfit"
        if len(self._rivals.equal) > 1:
            return "ambiguous"
        grouped = {name for group in self.equivalent_ for name in group}
        return "ok" if all(self.identifiable_.values()) and not grouped & {*self.coefficients_} else "weak"

    @property
    def weights_(self) -> list[Float[np.ndarray, "step unit input"]]:
        """The weights of each session of the fit, before every step and after the last."""
        check_is_fitted(self)
        initial = self._initial(len(self._trained.lengths))
        outputs = 1 if self._binary else self._architecture.units
        paths = run_sessions(self._model, self._fitted.theta, self._trained, initial, outputs, keep_weights=True)
        return [path.weights[: length + 1] for path, length in zip(paths, self._trained.lengths, strict=True)]

    def predict(self, inputs: Any, *, choices: Any = None, rewards: Any = None) -> Any:
        """The activity of all units, or the probability of choice 1 given the choices before, for each session.

        Each session starts from the first weights of the fit: their mean over sessions if they differ, and NaN for a
        unit of which none are known. Where a run diverges, it is NaN from the start, with a warning.

        Args:
            inputs: As in ``fit``.
            choices: Needed where weights change only where the choice is 1.
            rewards: Needed for a rule with a signal.

        Raises:
            NotFittedError: ``fit`` has not been called.
            ValueError: Lengths differ, a value is not finite, ``inputs`` have another number of features, or choices or
                rewards are missing that the rule needs.
        """
        check_is_fitted(self)
        sessions = self._sessions(inputs, choices=choices, rewards=rewards)
        predicted = self._predicted(sessions, rewards is not None)
        if self._binary:
            predicted = [0.5 * (1 + np.tanh(0.5 * logit[:, 0])) for logit in predicted]
        elif self._flat:
            predicted = [activity[:, 0] for activity in predicted]
        return predicted if is_list(inputs) or np.ndim(checks.as_array(inputs)) == 3 else predicted[0]

    def score(self, inputs: Any, activity: Any = None, *, choices: Any = None, rewards: Any = None) -> float:
        """R^2 of activity, averaged over units, or the share of a constant probability's deviance that is explained.

        The constant is the best one for the data that are scored. Minus infinity where a run diverges; of data that are
        constant, 1 if they are met and else 0.

        Args:
            inputs: As in ``fit``.
            activity: As in ``fit``.
            choices: As in ``fit``.
            rewards: As in ``fit``.
        """
        data, predicted = self._compared(inputs, activity, choices, rewards)
        if np.isnan(predicted).any():
            return -np.inf
        if data.binary:
            loss, of_constant = Bernoulli(data.observed).value(predicted), -constant_log_likelihood(data)
            return float(1 - loss / of_constant) if of_constant > 0 else float(loss == 0)
        ratios = []
        for unit in np.unique(data.unit[~np.isnan(data.observed).all(axis=1)]):
            observed, errors = data.observed[data.unit == unit], predicted[data.unit == unit]
            residual, total = np.nanmean((observed - errors) ** 2), np.nanvar(observed)
            ratios.append(residual / total if total > 0 else float(residual > 0))
        return float(1 - np.mean(ratios))

    def log_likelihood(self, inputs: Any, activity: Any = None, *, choices: Any = None, rewards: Any = None) -> float:
        """The log-likelihood of data that may be new, with the noise of the fit; to compare families on held-out data.

        Args:
            inputs: As in ``fit``.
            activity: As in ``fit``.
            choices: As in ``fit``.
            rewards: As in ``fit``.
        """
        data, predicted = self._compared(inputs, activity, choices, rewards)
        if np.isnan(predicted).any():
            return -np.inf
        if data.binary:
            return -Bernoulli(data.observed).value(predicted)
        return float(np.nansum(stats.norm.logpdf(data.observed, predicted, self.noise_[data.unit, None])))

    def compare(
        self,
        other: PlasticityRuleInference,
        inputs: Any,
        activity: Any = None,
        *,
        choices: Any = None,
        rewards: Any = None,
        groups: Any = None,
    ) -> Lead:
        """By how much this fit predicts data better than another, in units of log-likelihood, with its interval.

        The data are best those of animals that neither fit has seen; only the interval tells a lead from chance.

        Args:
            other: Another fit to the same kind of data.
            inputs: As in ``fit``.
            activity: As in ``fit``.
            choices: As in ``fit``.
            rewards: As in ``fit``.
            groups: As in ``fit``; the interval is over groups.

        Raises:
            NotFittedError: A ``fit`` has not been called.
            ValueError: The data are of another kind than those of a fit, there is not one group for each session, or as
                for ``predict``.
        """
        checks.instance("other", other, PlasticityRuleInference)
        ours, theirs = (
            log_likelihoods(*each._compared(inputs, activity, choices, rewards), each.noise_) for each in (self, other)
        )
        return lead(ours - theirs, groups_of_sessions(groups, len(ours)))

    def simulate(
        self, inputs: Any, rewards: Any = None, *, random_state: Any = None
    ) -> simulation.SimulatedActivity | simulation.SimulatedChoices:
        """Data as the fitted rule and noise would make them, from the first weights of the fit.

        Args:
            inputs: x, as in ``fit``.
            rewards: r of each step; for choices, what choice 1 would bring.
            random_state: Seed or generator of the noise, or of the choices.

        Raises:
            ValueError: There are no rewards, which choices, and rules with a signal, need.
        """
        check_is_fitted(self)
        rng = checks.rng("random_state", random_state)
        initial, name = self._initial(1)[0], self._architecture.nonlinearity
        if self._binary:
            readout = self._architecture.readout
            options = {
                "nonlinearity": name,
                "readout": readout,
                "initial_weights": initial[0] if readout is None else initial,
                "modulator": self.modulator,
                "baseline_window": self.baseline_window,
                "update_at": self.update_at,
            }
            if rewards is None:
                raise ValueError("rewards = None: expected what choice 1 would bring at each step")
            return simulation.simulate_choices(self.rule_, inputs, rewards, rng, **options)
        if self.rule_.modulated and rewards is None:
            raise ValueError("rewards = None: expected rewards, because the fitted rule has a signal")
        sessions = self._sessions(inputs, rewards=rewards)
        inputs, signal, U = *map(sessions.each, (sessions.inputs, sessions.signal)), self._architecture.input_weights
        simulated = simulation.simulate_activity(
            self.rule_, inputs, initial, rng, nonlinearity=name, input_weights=U, rewards=signal
        )
        noisy = [y + self.noise_ * rng.normal(size=y.shape) for y in simulated.activity]
        return simulated._replace(activity=noisy)

    def report(self) -> str:
        """What was found as a text: each term with its interval, what data cannot tell, and what would tell more."""
        check_is_fitted(self)
        width, drawn = max(map(len, self.coefficients_), default=0), len(self.bootstrap_) > 0
        lines = [f"status: {self.status_}"]
        if width:
            again = ", terms selected in each" if self.rivals_ else ""
            lines.append(f"intervals of 95 % {f'of sessions drawn again{again}' if drawn else 'given these terms'}:")
        for name, theta in self.coefficients_.items():
            low, high = self.intervals_[name]
            verdict = "" if self.identifiable_[name] else "   not determined by the data"
            if name in self.selected_in_draws_:
                verdict += f"   selected in {100 * self.selected_in_draws_[name]:.0f} % of the draws"
            lines.append(f"{name:{width}}  {theta:8.3f}  [{low:.3f}, {high:.3f}]{verdict}")
        lines += [f"the inputs cannot tell apart: {', '.join(group)}" for group in self.equivalent_]
        lines += lines_on_rivals(self._rivals, self._data, str(self.select))
        found = self.coefficients_, self.intervals_, self.identifiable_, self.equivalent_
        firmer = advice_on_misfit(self.nonlinearity_test_) + advice(
            *found, np.unique(self._data.session), drawn=drawn, errors=self.residual_correlation_
        )
        return "\n".join([*lines, *(["for a firmer answer:"] if firmer else []), *(f"- {line}" for line in firmer)])

    def plot_rivals(self) -> Figure:
        """A picture of all rules that were fitted within six units of the criterion, with their terms.

        Raises:
            NotFittedError: ``fit`` has not been called.
            ValueError: It was called without ``select``.
        """
        check_is_fitted(self)
        if not self.rivals_:
            raise ValueError(
                f"select = {self.select!r}: expected 'bic' or 'aic' in fit, without which there is no rival"
            )
        return rivals_figure(self.rivals_, str(self.select))

    def farthest_equal_rule(self, delta: float = LIKE_THE_BEST) -> EqualRule:
        """Another rule that explains the data nearly as well, and which inputs would tell it from the fitted one.

        It is the farthest along the direction that the data determine least, all else being fitted again.

        Args:
            delta: Units of log-likelihood that it may lose; by default what the ends of a 95 % interval lose.

        Raises:
            ValueError: The family is a rule, whose terms are not known, or no coefficient is left.
        """
        check_is_fitted(self)
        checks.number("delta", delta, above=0)
        if not has_terms(self._model) or not self.coefficients_:
            raise ValueError(f"family = {self.family}, {len(self.coefficients_)} coefficients: expected terms")
        data, fit = self._data, self._fitted
        return farthest_equal_rule(self._model, data, fit, scale_of(self._model, data, fit), delta)

    def _compared(self, inputs: Any, activity: Any, choices: Any, rewards: Any) -> tuple[Data, np.ndarray]:
        """The recorded entries of data, and the predictions of them."""
        check_is_fitted(self)
        if (activity is None) != self._binary or (choices is None) == self._binary:
            raise ValueError(f"expected {'choices' if self._binary else 'activity'}, as in fit, and nothing else")
        sessions = self._sessions(inputs, activity, choices=choices, rewards=rewards)
        data = self._recorded(sessions, known=True)
        whole_sessions = self._predicted(sessions, rewards is not None)
        predicted = np.zeros(data.observed.shape)
        for row, (session, unit) in enumerate(zip(data.session, data.unit, strict=True)):
            predicted[row, : sessions.lengths[session]] = whole_sessions[session][:, unit]
        return data, predicted

    def _predicted(self, sessions: Sessions, rewarded: bool) -> list[np.ndarray]:
        if self.rule_.modulated and not rewarded:
            raise ValueError("rewards = None: expected rewards, because the fitted rule has a signal")
        if sessions.inputs.shape[2] != self.n_features_in_:
            raise ValueError(
                f"inputs have {sessions.inputs.shape[2]} features: expected {self.n_features_in_}, as in fit"
            )
        shape = len(sessions.lengths), self._architecture.units, self._architecture.inputs
        initial = np.broadcast_to(self._initial(1), shape)
        outputs = 1 if self._binary else self._architecture.units
        paths = run_sessions(self._model, self._fitted.theta, sessions, initial, outputs)
        return [path.activity.T[:length] for path, length in zip(paths, sessions.lengths, strict=True)]

    def _initial(self, sessions: int) -> Float[np.ndarray, "session unit input"]:
        """First weights of every session: those of the fit, or for one session that is new, the mean."""
        weights = self.initial_weights_
        if weights.ndim == 3:
            return weights if len(weights) == sessions else np.nanmean(weights, axis=0, keepdims=True)
        return np.broadcast_to(weights, (sessions, *weights.shape))
