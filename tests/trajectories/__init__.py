"""Recorded trajectories: what ten steps of every stage and schedule give, number by number."""
