"""`python -m uae` is the same as `uae`."""

from uae.cli import main

main()
