"""``python -m hft_ray``, which torchrun starts."""

from hft_ray.cli import main

if __name__ == "__main__":
    main()
