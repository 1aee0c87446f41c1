"""The settings of an experiment: their types and ranges, and the YAML files that hold them."""
