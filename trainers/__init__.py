"""Trainers: they read locked datasets and need only torch, transformers and accelerate."""
