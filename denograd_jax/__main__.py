"""`python -m denograd_jax` is the command `denograd-jax`."""

from denograd_jax.cli import entry_point

if __name__ == "__main__":
    entry_point()
