"""Training a network and making a bundle of it. The only rooms that need PyTorch."""
