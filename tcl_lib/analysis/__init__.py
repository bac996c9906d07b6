"""What is measured on a trained network, and what is computed from tables of runs.

Only `evaluation` and `activity` import torch.
"""
