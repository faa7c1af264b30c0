"""Losses, one per file: pure functions on tensors that return sums over tokens.

Names that configs need stand here, so that reading a config does not import torch.
"""

from typing import Literal

# What a top-k loss does with the mass outside the top k; see `trainers.losses.forward_kl`.
Tail = Literal["bucket", "renormalise", "drop"]

# How a KL penalty is estimated and differentiated; see `trainers.losses.reference_kl`.
KLEstimator = Literal["k1", "k2", "k3", "k3_direct"]
