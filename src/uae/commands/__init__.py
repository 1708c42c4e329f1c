"""The verbs of the command line. Torch and the models are imported when a verb runs, not before."""
