"""Training a network's tail on the device: examples -> features of the frozen trunk -> steps -> model and update."""
