"""Stages that decide how a network's outputs are read, by what is fitted over the sites."""
