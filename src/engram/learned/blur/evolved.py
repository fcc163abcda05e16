"""A genome from an evolutionary search, the default of ``BlurClassifier``."""

import torch

from engram.learned.blur.genome import Genome

# Twenty generations of CMA-ES, 24 individuals each, from ``Genome.near_backprop(0.0, ...)``, on random Gaussian
# classes, 3 of 4 features, 2 of 16 and 10 of 64, features standardised; networks with 32 hidden units and
# ``saturation="norm"``, lifetimes of 10 and 30 steps in turn.
EVOLVED = Genome(
    nu=torch.tensor([[1.895, 1.606], [0.331, 1.396]]),
    mu=torch.tensor([[1.212, -0.747], [-1.132, 1.143]]),
    P=torch.tensor([[1.114, 0.756], [0.356, 1.161]]),
    Q=torch.tensor([[-0.169, 1.453], [0.743, 0.671]]),
    keep_n=torch.tensor(1.994),
    gain_n=torch.tensor(0.523),
    keep_s=torch.tensor(1.436),
    gain_s=torch.tensor(1.21),
    norm_gain=torch.tensor(2.791),
    norm_shift=torch.tensor(-0.033),
    oja=torch.tensor(0.681),
)
