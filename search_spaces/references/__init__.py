"""Published networks as architectures, one file a family, with the paper's numbers beside them. No torch."""
