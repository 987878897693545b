"""Series larger than memory: refined on disk, block by block, through kills and full disks."""

from denograd_jax.streaming._progress import Progress
from denograd_jax.streaming._stream import StreamResult, stream

__all__ = ["Progress", "StreamResult", "stream"]
