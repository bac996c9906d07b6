"""Event cameras: recordings and frames of counted events.

Only `datasets` and `augment` import torch; the other modules run in many processes.
"""
