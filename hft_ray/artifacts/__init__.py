"""What this project writes to disk and reads again: written whole or not at all, verified.

An artifact is a folder of files with a manifest, a JSON file that names each of them. Checkpoints,
kept weights, deltas and copies in a mirror are artifacts.
"""

from hft_ray.artifacts.disk_budget import DiskBudget, size_of
from hft_ray.artifacts.manifest import ArtifactError, FileName, Manifest, newest_whole, verify
from hft_ray.artifacts.mirror import Mirror, MirrorError
from hft_ray.artifacts.whole import delete_partial, new_file, new_folder

__all__ = [
    "ArtifactError",
    "DiskBudget",
    "FileName",
    "Manifest",
    "Mirror",
    "MirrorError",
    "delete_partial",
    "new_file",
    "new_folder",
    "newest_whole",
    "size_of",
    "verify",
]
