"""The autotuner: `python -m autotune --gpu 4090`."""
