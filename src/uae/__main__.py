"""`python -m uae` is the same as `uae`."""

from uae.cli.app import main

main()
