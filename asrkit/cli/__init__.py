"""The command line: one module for each verb, which only parses arguments and calls a stage."""
