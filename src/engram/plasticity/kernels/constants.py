"""Numeric codes of recursions, forms of forgetting and nonlinearities, for operators and kernels."""

from __future__ import annotations

LINEAR, SOFT, RETROACTIVE = 0, 1, 2
HEBB, ADDITIVE = 3, 4  # cheaper linear recursions: one rate for all connections and no bound; nothing forgotten
FIXED = 5  # no trace: a network without plasticity
NOTHING, SHARE, RATE, OJA = 0, 1, 2, 3  # what a step forgets: 0, m clamped to [0, 1], m, m y^2
IDENTITY, TANH, SIGMOID, SOFTMAX = 0, 1, 2, 3
INPUT, RECURRENT, CELL, HIDDEN = 0, 1, 2, 3  # the postsynaptic activity for the rule of an LSTM
BLOCK = 4  # samples that the LSTM kernel processes side by side

RECURSIONS = {"linear": LINEAR, "soft": SOFT, "retroactive": RETROACTIVE}
FORGETS = {"nothing": NOTHING, "share": SHARE, "rate": RATE, "oja": OJA}
POST = {"input": INPUT, "recurrent": RECURRENT, "cell": CELL, "hidden": HIDDEN}
SQUASH = {"identity": IDENTITY, "tanh": TANH, "sigmoid": SIGMOID}
