"""Speed and memory of a training step, beside other libraries for spiking neural networks."""
