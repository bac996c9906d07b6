"""Measurements of a trained network, and statistics of many runs.

Only `evaluation` and `activity` import torch.
"""
