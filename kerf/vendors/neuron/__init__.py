"""AWS Neuron: whole devices, and their cores."""
