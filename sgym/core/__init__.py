"""The physics: compiled kernels over structured arrays. Nothing here knows of files or classes."""
