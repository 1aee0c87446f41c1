"""Reports: errors of a decoded data set, comparison of systems, tuning and confidences."""
