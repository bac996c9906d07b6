"""The field's libraries beside this one: speed and memory of a training step."""
