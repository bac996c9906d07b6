"""Event cameras, from recordings to frames of counted events.

`datasets` and `augment` import torch, the others do not: they run in many processes.
"""
