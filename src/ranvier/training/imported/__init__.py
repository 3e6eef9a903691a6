"""Models of other tools -> bundles. Only nnU-Net 2's so far."""
