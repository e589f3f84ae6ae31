"""LightningModules: what a training step computes and logs."""
