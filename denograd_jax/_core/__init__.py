"""The pure core: gradients, sweeps, `init`/`step` and the loop."""
